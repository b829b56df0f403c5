"""Memory and processor time by session."""

import os
import subprocess
import sys
from pathlib import Path

from appliance.roles.node.process_usage import Usage, read_usage


def test_a_session_counts_with_all_its_processes(tmp_path: Path) -> None:
    for pid, session, ticks, pages in ((1, 5, 10, 2), (2, 5, 20, 3), (3, 6, 99, 99)):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", "0", "0", str(session), *["0"] * 7, str(ticks), "0", *["0"] * 8, str(pages)]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) name) {' '.join(fields)} 0 0\n")
    (tmp_path / "4").mkdir()  # ended while we looked
    (tmp_path / "version").write_text("x")
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    assert read_usage({5, 7}, tmp_path) == {5: Usage(5 * page, 10 / tick + 20 / tick)}
    assert read_usage({5}, tmp_path / "none") == {}


def test_a_real_process() -> None:
    code = "import sys; x = bytearray(50_000_000); sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        usage = read_usage({child.pid})[child.pid]
        child.kill()
    assert usage.memory_bytes > 50_000_000

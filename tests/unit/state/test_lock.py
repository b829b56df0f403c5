"""One appliance per state dir."""

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.core.errors import StateUnavailable
from appliance.state.lock import hold_lock

ROOT = Path(__file__).parent.parent.parent.parent
HOLDER = """
import sys
from pathlib import Path
from appliance.state.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_holder_is_refused_and_told_the_pid_until_the_first_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "appliance.lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateUnavailable) as caught, hold_lock(lock):
            pass
        assert f"another appliance with pid {holder.pid} is using it" in str(caught.value)
        holder.kill()
        holder.wait()
        with hold_lock(lock):
            pass


def test_lock_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with pytest.raises(KeyError), hold_lock(lock):
        raise KeyError
    with hold_lock(lock), pytest.raises(StateUnavailable, match="another appliance"), hold_lock(lock):
        pass
    assert lock.read_text() == ""


def test_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with child, hold_lock(tmp_path / "lock"):
        child.communicate(b"\n")


def test_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(StateUnavailable, match=r"^cannot use the state folder .*file/state: ")
    with refused as caught, hold_lock(tmp_path / "file" / "state" / "lock"):
        pass
    assert "\n" not in str(caught.value)

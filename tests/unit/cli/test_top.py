"""The frames and pictures of `top`: rates, narrow and low terminals, and the live view on a real terminal."""

import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from appliance.cli.top_view import Sample, frame, render, shares, size
from appliance.core.paths import resolve_paths
from tests.helpers.threaded_http import QuietHandler, serving_in_thread


def process(name: str, **more: Any) -> dict[str, Any]:
    facts = {"id": name, "component": "W", "model": "m", "phase": "ready", "since": 1.0, "pid": 7, "restarts": 0}
    return facts | {"reason": "", "memory_bytes": 3_400_000_000, "cpu_s": 1.0} | more


def status(**more: Any) -> dict[str, Any]:
    return {
        "url": "http://127.0.0.1:8000/v1",
        "ready": True,
        "draining": False,
        "uptime_s": 65.0,
        "models": [{"name": "m", "phase": "ready", "reason": ""}],
        "workers": [process("w-0"), process("w-1", phase="starting", pid=None, cpu_s=None, memory_bytes=None)],
        "frontends": [process("f-0", model=None)],
        "active_requests": 2,
        "requests": [{"model": "m", "workers": ["w-1", "w-0"]}, {"model": "m", "workers": []}],
        "totals": {"requests": 10.0, "failed": 1.0, "output_tokens": 100.0, "queued": 1.0},
    } | more


def text_of(facts: dict[str, Any], width: int, height: int | None = None) -> list[str]:
    console = Console(width=width, height=height or 25, color_system=None)
    with console.capture() as captured:
        console.print(render(facts, width, height))
    return captured.get().splitlines()


def test_rates_are_differences_per_second() -> None:
    totals = {"requests": 20.0, "failed": 1.0, "output_tokens": 700.0, "queued": 0.0}
    later = status(totals=totals, workers=[process("w-0", cpu_s=4.0)])
    facts = frame(Sample(status(), 10.0), Sample(later, 12.0))
    assert facts["requests"] == {
        "running": 2,
        "waiting": 0,
        "per_s": 5.0,
        "failed_per_s": 0.0,
        "output_tokens_per_s": 300.0,
    }
    assert facts["workers"][0]["cpu_percent"] == 150.0
    assert (facts["workers"][0]["running"], facts["models"][0]["running"], facts["models"][0]["waiting"]) == (1, 1, 1)


def test_counters_that_begin_anew_give_no_negative_rate() -> None:
    fresh = status(totals={"requests": 0.0}, workers=[process("w-0", cpu_s=0.0)])
    facts = frame(Sample(status(), 0.0), Sample(fresh, 1.0))
    assert facts["requests"]["per_s"] == 0.0
    assert facts["workers"][0]["cpu_percent"] == 0.0


def test_the_picture_names_what_runs() -> None:
    lines = text_of(frame(Sample(status(), 0), Sample(status(), 1)), 120)
    assert lines[0].rstrip() == "http://127.0.0.1:8000/v1  ready  up 1m5s"
    assert lines[1].startswith("2 running, 1 waiting")
    row = next(line for line in lines if line.startswith("w-0"))
    assert row.split() == ["w-0", "ready", "1", "0", "3.4", "GB", "0", "7", "m"]


def test_gpus_are_shown_when_the_status_has_them() -> None:
    gpus = [{"index": 0, "name": "H100", "utilisation": 93, "memory_used": 7e10, "memory_total": 8e10}]
    lines = text_of(frame(Sample(status(), 0), Sample(status(gpus=gpus), 1)), 120)
    assert "H100" in lines[-1]
    assert "93" in lines[-1]


@given(st.lists(st.integers(3, 50), max_size=4), st.integers(0, 60))
def test_lines_are_shared_out(needs: list[int], room: int) -> None:
    given_out = shares(needs, room)
    assert sum(given_out) <= room
    assert all(got <= need for got, need in zip(given_out, needs, strict=True))
    assert given_out == needs or sum(given_out) > room - len(needs)


@given(width=st.integers(20, 200), height=st.integers(8, 60), workers=st.integers(0, 40))
def test_every_terminal_is_respected(width: int, height: int, workers: int) -> None:
    many = status(workers=[process(f"a-worker-with-a-long-name-{n}") for n in range(workers)])
    lines = text_of(frame(Sample(many, 0), Sample(many, 1)), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_rows_without_room_are_counted() -> None:
    many = status(workers=[process(f"w-{n}") for n in range(30)])
    lines = [line.strip() for line in text_of(frame(Sample(many, 0), Sample(many, 1)), 80, 24)]
    shown = sum(line.startswith("w-") for line in lines)
    assert f"and {30 - shown} more" in lines


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (999_600, "1.0 MB"), (2e12, "2.0 TB")],
)
def test_sizes(count: float | None, text: str) -> None:
    assert size(count) == text


class Admin(QuietHandler):
    """Answers every request with the status."""

    def do_GET(self) -> None:
        body = json.dumps(status()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state dir whose admin socket answers."""
    paths = resolve_paths(str(tmp_path), {"TMPDIR": str(tmp_path)})
    paths.run_dir.mkdir(parents=True, exist_ok=True)
    with serving_in_thread(ThreadingUnixStreamServer(str(paths.admin_socket), Admin)):
        yield tmp_path


def call(state_dir: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "appliance", "top", "--state-dir", str(state_dir), "--interval", "0.1", *args]


def environ(state_dir: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "TMPDIR": str(state_dir), "HOME": "/nonexistent"}


def test_once_and_json_need_no_terminal(state_dir: Path) -> None:
    once, as_json, live = (
        subprocess.run(call(state_dir, *args), env=environ(state_dir), capture_output=True, text=True, timeout=30)
        for args in (["--once"], ["--json"], [])
    )
    assert (once.returncode, once.stderr) == (0, "")
    assert "w-1" in once.stdout
    assert json.loads(as_json.stdout)["requests"]["running"] == 2
    assert live.returncode == 2
    assert "--once" in live.stderr


@pytest.mark.parametrize(("end", "code"), [(b"q", 0), (b"Q", 0), (b"\x03", 130)])
def test_the_live_view_ends_with_a_key_and_leaves_the_terminal_as_it_was(
    state_dir: Path, end: bytes, code: int
) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 40, 0, 0))
    before = termios.tcgetattr(slave)
    running = subprocess.Popen(
        call(state_dir), env=environ(state_dir), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=sit_at_the_terminal,
    )  # fmt: skip
    try:
        seen = read_until(master, b"w-0", times=3)
        os.write(master, end)
        assert running.wait(10) == code
        assert termios.tcgetattr(slave) == before
        seen += drain(master)
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
        running.wait()
        os.close(slave)
        os.close(master)
    assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1  # the other screen, entered and left once
    assert b"\x1b[2J" not in re.sub(rb"\x1b\[\?1049h.{0,40}?\x1b\[2J", b"", seen, flags=re.DOTALL)  # no flicker


def sit_at_the_terminal() -> None:
    """As after a login: keys make signals, and Ctrl-C is not ignored, as it is in the background of a script."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def read_until(master: int, text: bytes, times: int) -> bytes:
    seen, deadline = b"", time.monotonic() + 20
    while seen.count(text) < times:
        assert time.monotonic() < deadline, seen
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536)
    return seen


def drain(master: int) -> bytes:
    seen = b""
    with suppress(BlockingIOError):
        os.set_blocking(master, False)
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError as error:
            if error.errno != errno.EIO:
                raise
    return seen

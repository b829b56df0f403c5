"""What all processes of the e2e tests have in common: how they are called, their environment, the ready line."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

START_S = 60.0  # generous: the machines that run this are slow and shared
TOLD_BYTES = 3000  # of a log, when a start went wrong


def command(binary: str | None) -> list[str]:
    """How the appliance is called in this run."""
    return [binary] if binary else [sys.executable, "-m", "appliance"]


def login_environment() -> dict[str, str]:
    """Nothing of the developer's environment but what a login gives."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}


def wait_ready(process: subprocess.Popen[bytes], ready: re.Pattern[str], log: Path) -> re.Match[str]:
    """Read stdout up to the line that `ready` matches. Without it the test fails with the end of the log."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_S
    text = b""
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            text += os.read(process.stdout.fileno(), 65536)
        for line in text.decode(errors="replace").split("\n")[:-1]:  # the last one may have more to come
            if match := ready.match(line):
                return match
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before it was ready: {text!r} {log_tail(log)}")
    raise AssertionError(f"not ready after {START_S} s: {text!r} {log_tail(log)}")


def stop_process(process: subprocess.Popen[bytes], signum: int = signal.SIGTERM) -> int:
    """End it; the exit code."""
    if process.poll() is None:
        process.send_signal(signum)
    code = process.wait(20)
    if process.stdout is not None:
        process.stdout.close()
    return code


def log_tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-TOLD_BYTES:] if log.exists() else ""

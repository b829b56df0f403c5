"""Starts one standalone role as a user would, and calls its HTTP port."""

import http.client
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.appliance_process import START_S, command

READY = re.compile(rb"^ready: http://(?P<host>\S+):(?P<port>\d+) (?P<facts>.*)took=[\d.]+s$", re.MULTILINE)


class Role:
    """One running role."""

    def __init__(self, binary: str | None, folder: Path, *args: str) -> None:
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
        self.log = folder / f"{args[0]}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command(binary), *args, "--state-dir", str(folder / "state")],
                env=keep | {"TMPDIR": str(folder)},
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.port = self._wait_ready()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON of an answer; text that is none as it is. A body that is text is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = None if body is None else body if isinstance(body, str) else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def _wait_ready(self) -> int:
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_S
        text = b""
        while time.monotonic() < deadline:
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                text += os.read(self.process.stdout.fileno(), 65536)
            if match := READY.search(text):
                return int(match["port"])
            if self.process.poll() is not None:
                break
        self.stop(signal.SIGKILL)
        raise AssertionError(f"not ready: {text!r} {self.log.read_text(errors='replace')[-3000:]}")


@contextmanager
def role(binary: str | None, folder: Path, *args: str) -> Iterator[Role]:
    """A started role that is gone when the block is left."""
    one = Role(binary, folder, *args)
    try:
        yield one
    finally:
        one.stop(signal.SIGKILL)

"""Starts one standalone role as a user would, and calls its HTTP port."""

import http.client
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.started_process import command, login_environment, stop_process, wait_ready

READY = re.compile(r"^ready: http://(?P<host>\S+?):(?P<port>\d+)(/v1)? (?P<facts>.*)took=[\d.]+s$")


class Role:
    """One running role."""

    def __init__(self, binary: str | None, folder: Path, *args: str) -> None:
        self.log = folder / f"{args[0]}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command(binary), *args, "--state-dir", str(folder / "state")],
                env=login_environment() | {"TMPDIR": str(folder)},
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.port = int(wait_ready(self.process, READY, self.log)["port"])
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

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
        return stop_process(self.process, signum)


@contextmanager
def role(binary: str | None, folder: Path, *args: str) -> Iterator[Role]:
    """A started role that is gone when the block is left."""
    one = Role(binary, folder, *args)
    try:
        yield one
    finally:
        one.stop(signal.SIGKILL)

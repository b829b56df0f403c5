"""Workers and front ends without a supervisor, started by hand, each as a process of its own."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.role_process import Role, role
from tests.e2e.started_process import command, login_environment, stop_process, wait_ready

WORKER_READY = re.compile(r"^ready: unix:(?P<socket>\S+) models=(?P<models>\S+) took=[\d.]+s$")
MODEL = "m"


class LoneWorker:
    """One mocker worker on a socket in the folder, started again at will."""

    def __init__(self, binary: str | None, folder: Path, name: str, *args: str) -> None:
        self.socket = folder / "w" / f"{name}.sock"
        self._folder = folder
        self._argv = [*command(binary), "worker", "--model", MODEL, "--engine", "mocker", *args]
        self._argv += ["--link-socket", str(self.socket), "--state-dir", str(folder / "state")]
        self.start()

    def start(self) -> None:
        """Returns once it serves."""
        log = self._folder / f"{self.socket.stem}.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self._argv, env=login_environment(), stdout=subprocess.PIPE, stderr=out, start_new_session=True
            )
        found = wait_ready(self.process, WORKER_READY, log)
        assert (found["socket"], found["models"]) == (str(self.socket), MODEL)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End it; the exit code."""
        return stop_process(self.process, signum)


class StandaloneSet:
    """A folder for the sockets of workers, and what runs around it."""

    def __init__(self, binary: str | None, folder: Path) -> None:
        self.binary, self.folder = binary, folder
        self.sockets = folder / "w"
        self.sockets.mkdir()
        self.started: list[LoneWorker] = []

    def worker(self, name: str, *args: str) -> LoneWorker:
        one = LoneWorker(self.binary, self.folder, name, *args)
        self.started.append(one)
        return one

    @contextmanager
    def front_end(self, *args: str) -> Iterator[Role]:
        with role(
            self.binary, self.folder, "frontend", "--workers", str(self.sockets), "--http-port", "0", *args
        ) as one:
            yield one


@contextmanager
def standalone_set(binary: str | None, folder: Path) -> Iterator[StandaloneSet]:
    """A set whose workers are gone when the block is left."""
    one = StandaloneSet(binary, folder)
    try:
        yield one
    finally:
        for worker in one.started:
            worker.stop(signal.SIGKILL)


def chat(**more: Any) -> dict[str, Any]:
    """A chat request whose answer is always the same."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 4}
    return body | {"temperature": 0, "seed": 7} | more


def instances(front_end: Role) -> dict[str, int]:
    """The numbers of the ready workers, by the names of their sockets."""
    found = front_end.ask("GET", "/health")[1]["instances"]
    return {row["transport"]["unix"]: row["instance_id"] for row in found}


def loaded_workers(front_end: Role) -> list[int]:
    """The numbers of the workers that streams use blocks of."""
    families = text_string_to_metric_families(front_end.ask("GET", "/metrics")[1])
    samples = [sample for family in families for sample in family.samples]
    return [
        int(sample.labels["worker_id"])
        for sample in samples
        if sample.name == "dynamo_frontend_worker_active_decode_blocks" and sample.value
    ]


class Stream(threading.Thread):
    """A chat that streams in a thread of its own."""

    def __init__(self, port: int, **more: Any) -> None:
        super().__init__(daemon=True)
        self._port, self._body = port, chat(stream=True, **more)
        self.words: list[str] = []
        self.ending = ""
        """The reason of its end; nothing when it broke off."""
        self.start()

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("POST", "/v1/chat/completions", msgspec.json.encode(self._body))
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                for choice in msgspec.json.decode(line[6:])["choices"]:
                    self.words.append(choice["delta"].get("content") or "")
                    self.ending = choice["finish_reason"] or self.ending
        connection.close()

    def text(self) -> str:
        """All of it, once it has ended by itself."""
        self.join(40)
        assert self.ending == "length", f"the stream ended with {self.ending!r} after {self.words}"
        return "".join(self.words)

"""Starts, observes and ends one appliance as a user would: by its command line, its ready line and its signals."""

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.started_process import command, log_tail, login_environment, wait_ready

READY = re.compile(r"^ready: (?P<scheme>https?)://(?P<host>\S+):(?P<port>\d+)/v1 models=(?P<models>\S*) took=[\d.]+s$")


class Appliance:
    """One running appliance with a state dir of its own."""

    def __init__(self, binary: str | None, state_dir: Path, extra_env: dict[str, str] | None = None) -> None:
        self.binary = binary
        self.extra_env = extra_env or {}
        self.state_dir = state_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.models: list[str] = []
        self.log = state_dir.with_suffix(".log")

    @property
    def env(self) -> dict[str, str]:
        return login_environment() | {"PYTHONPATH": "", "TMPDIR": str(self.state_dir.parent)} | self.extra_env

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *args: str, wait: bool = True) -> None:
        argv = [*command(self.binary), "serve", "--port", "0", "--state-dir", str(self.state_dir), *args]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=self.env, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Read stdout up to the ready line."""
        assert self.process is not None
        found = wait_ready(self.process, READY, self.log)
        self.port, self.models = int(found["port"]), found["models"].split(",")

    def cli(self, *args: str, check: bool = True, timeout: float = 60, input: str | None = None) -> str:
        """Run a verb against this appliance and return its stdout."""
        done = self.run(*args, timeout=timeout, input=input)
        if check and done.returncode != 0:
            raise AssertionError(f"{args} ended with {done.returncode}: {done.stderr}\n{self.tail()}")
        return done.stdout

    def run(self, *args: str, timeout: float = 60, input: str | None = None) -> subprocess.CompletedProcess[str]:
        argv = [*command(self.binary), args[0], "--state-dir", str(self.state_dir), *args[1:]]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=timeout, input=input)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("status", "--json"))
        return found

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def chat(self, model: str, text: str, **more: Any) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0, **more}
        request = urllib.request.Request(
            self.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def family(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Descendants that run the `worker` verb (in the one-file build: not their bootloaders)."""
        return [p for p in self.family() if "worker" in _cmdline(p)]

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 45) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(timeout)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def tail(self) -> str:
        return log_tail(self.log)


def _cmdline(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ()


def refusal(call: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of the error answer that a call gets."""
    try:
        call()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    raise AssertionError("the request was not refused")


@contextmanager
def appliance(
    binary: str | None, state_dir: Path, *args: str, wait: bool = True, environ: dict[str, str] | None = None
) -> Iterator[Appliance]:
    """A started appliance that is gone, with all its processes, when the block is left."""
    one = Appliance(binary, state_dir, environ)
    try:
        one.start(*args, wait=wait)
        yield one
    finally:
        family = one.family()
        try:
            one.stop()
        finally:
            for process in family:
                if process.is_running():
                    process.kill()


def eventually(check: Any, timeout: float = 20.0, every: float = 0.05) -> Any:
    """The first true result of a check; fails with the last one after the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {result!r} after {timeout} s")
        time.sleep(every)

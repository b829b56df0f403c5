"""Runs scripted workers under supervision: how to call them, and the pipe on which they report."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.supervision.environment import child_environment
from appliance.supervision.guard import read_process
from appliance.supervision.process import LaunchPlan
from appliance.supervision.supervisor import Supervisor

SCRIPT = Path(__file__).with_name("scripted_worker.py")
ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-IS")
GUARD_ARGV = (
    *PYTHON,
    "-c",
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from appliance.supervision.guard import main; main()",
)


def scripted_argv(*switches: str) -> tuple[str, ...]:
    """Command line of a scripted worker."""
    return (*PYTHON, str(SCRIPT), *switches)


def scripted_plan(*switches: str, pass_fds: tuple[int, ...] = ()) -> LaunchPlan:
    """Plan of a scripted worker with our environment."""
    env = child_environment(os.environ, {}, frozen=False, foreign=False)
    return LaunchPlan(argv=scripted_argv(*switches), env=env, pass_fds=pass_fds)


def is_alive(pid: int) -> bool:
    """True while the process exists and is no zombie."""
    process = read_process(pid)
    return process is not None and not process.zombie


async def wait_until(holds: Callable[[], bool], within_s: float) -> None:
    """Wait for a fact outside this process, which nothing can announce; TooSlowError when it does not come true."""
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def wait_dead(pids: list[int], within_s: float) -> None:
    """Wait until none of the processes lives; TooSlowError when one does after that time."""
    await wait_until(lambda: not any(is_alive(pid) for pid in pids), within_s)


@contextmanager
def open_parent(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that starts processes, with its stdout; it is killed at the end of the block."""
    with subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def read_numbers(parent: subprocess.Popen[bytes]) -> list[int]:
    """The numbers on the next line that it prints."""
    assert parent.stdout is not None
    return [int(word) for word in parent.stdout.readline().split()]


class Reports:
    """The pipe that scripted workers report on, and what came over it."""

    def __init__(self) -> None:
        read_end, self.fd = os.pipe()
        self._stream = trio.lowlevel.FdStream(read_end)
        self.pids: dict[str, list[int]] = {"worker": [], "holder": [], "escaped": []}

    @property
    def all_pids(self) -> list[int]:
        return [pid for pids in self.pids.values() for pid in pids]

    async def read(self, on_ready: Callable[[WorkerId], object]) -> None:
        """Take reports until cancelled."""
        rest = b""
        async for data in self._stream:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                match line.decode().split():
                    case ["pid", kind, pid]:
                        self.pids[kind].append(int(pid))
                    case ["ready", worker]:
                        on_ready(WorkerId(worker))

    def close(self) -> None:
        """Close both ends, and end what a failed test left behind."""
        os.close(self.fd)
        self._stream.close()
        for pid in self.all_pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def launch(self, instance: ComponentInstance, worker: WorkerId) -> LaunchPlan:
        """The instance's argv are switches of the scripted worker."""
        switches = ("--id", worker, "--report-fd", str(self.fd), "--parent", str(os.getpid()))
        return scripted_plan(*switches, *instance.argv, pass_fds=(self.fd,))


@asynccontextmanager
async def open_reports() -> AsyncIterator[Reports]:
    """A report pipe for the length of a block."""
    reports = Reports()
    try:
        yield reports
    finally:
        reports.close()


async def drain_by_signal(supervisor: Supervisor, worker: WorkerId, drain_s: float) -> None:
    """What Stop on the bus is to a real worker."""
    for view in supervisor.views():
        if view.id == worker and view.pid is not None:
            os.kill(view.pid, signal.SIGUSR1)

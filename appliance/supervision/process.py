"""Child processes: start, output, exit and kill. Processes are created here and in no other module of this package."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import trio

from appliance.core.errors import CannotStart, InternalError

PIPE_GRACE_S = 2.0  # a grandchild outside the group may keep the pipe open after its parent ended
KILL_S = 5.0  # what the kernel takes at most to end a process after SIGKILL, unless a driver holds it
READ_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """How one process is called."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment, nothing is added."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors that the child inherits under the same numbers; they stay open here."""
    address: str = ""
    """Where the child will serve, for the records of others."""
    cwd: str | None = None


class ChildPort(Protocol):
    """A started process as the worker task needs it."""

    @property
    def pid(self) -> int:
        """Process id, group id and session id."""
        ...

    async def wait(self) -> int:
        """Wait for the exit and reap it: the exit code, or minus the signal. Cancelling leaves it running."""
        ...

    async def read_output(self, sink: Callable[[bytes], None]) -> None:
        """Hand on what the child writes until every holder of its pipe is gone. Cancelling loses nothing read."""
        ...

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM); nothing when it has."""
        ...

    def kill_group(self) -> None:
        """End the process and everything in its group (SIGKILL); nothing once it was reaped."""
        ...

    def close(self) -> None:
        """Let go of the descriptors; the process is not touched."""
        ...


class Child:
    """A real child process, leader of its own session and group."""

    def __init__(self, popen: subprocess.Popen[bytes], pidfd: int, output: trio.lowlevel.FdStream | None) -> None:
        self._popen = popen
        self._pidfd = pidfd
        self._output = output
        self._reaping = trio.Lock()

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def wait(self) -> int:
        async with self._reaping:
            if self._popen.returncode is None:
                # No deadline: a child may live for months. The callers that expect an end bound it.
                await trio.lowlevel.wait_readable(self._pidfd)
                self.kill_group()  # what is left of it; until the reaping the number is surely ours
                self._popen.wait()
        return self._popen.returncode

    async def read_output(self, sink: Callable[[bytes], None]) -> None:
        if self._output is None:
            return
        while data := await self._output.receive_some(READ_BYTES):
            sink(data)

    def terminate(self) -> None:
        # Not `Popen.terminate`: it reaps a dead process on the way, before the rest of its group was killed.
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def kill_group(self) -> None:
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def start_child(plan: LaunchPlan, *, stdin: int = subprocess.DEVNULL, capture: bool = True) -> Child:
    """Start a process in its own session; stdout and stderr share one pipe, so that their order is kept.

    `capture=False` sends the output to nowhere. Blocks for the few milliseconds of fork and exec, on the main thread:
    a child that asked for a parent-death signal gets it when the *thread* that forked it ends. Raises CannotStart.
    """
    if threading.current_thread() is not threading.main_thread():
        raise InternalError("cannot start a process outside the main thread")
    with _mapping_errors(plan.argv[0]):
        if not capture:
            return _watch(_popen(plan, stdin, subprocess.DEVNULL), None)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            popen = _popen(plan, stdin, write_end)
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return _watch(popen, read_end)


def _popen(plan: LaunchPlan, stdin: int, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        plan.argv,
        env=dict(plan.env),
        cwd=plan.cwd,
        pass_fds=plan.pass_fds,
        stdin=stdin,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _watch(popen: subprocess.Popen[bytes], read_end: int | None) -> Child:
    try:
        pidfd = os.pidfd_open(popen.pid)
    except OSError:
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        if read_end is not None:
            os.close(read_end)
        raise
    return Child(popen, pidfd, None if read_end is None else trio.lowlevel.FdStream(read_end))


@contextmanager
def _mapping_errors(program: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotStart(f"cannot start {program}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in an argument or a variable
        raise CannotStart(f"cannot start {program}: {error}") from error

"""The supervisor's side of the guard: starts it, keeps it alive and tells it which process groups exist."""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import trio

from appliance.core.errors import CannotStart
from appliance.supervision.guard import LEASE_VARIABLE, read_process
from appliance.supervision.process import KILL_S, Child, LaunchPlan, start_child

RETRY_S = 1.0  # a guard that ends sooner is broken; one that was killed later is replaced at once


class GuardPort(Protocol):
    """Whoever remembers process groups beyond our own death."""

    def mark(self) -> dict[str, str]:
        """Variables that the next worker's environment must hold; new ones at each call."""
        ...

    def record(self, pid: int, mark: Mapping[str, str]) -> None:
        """A process that leads a group has started; it must not have been reaped yet."""
        ...

    def forget(self, pid: int) -> None:
        """It has ended and its group was killed; what escaped from it is killed now."""
        ...


class NoGuard:
    """Guards nothing; for tests and for roles without children of their own."""

    def mark(self) -> dict[str, str]:
        return {}

    def record(self, pid: int, mark: Mapping[str, str]) -> None:
        return

    def forget(self, pid: int) -> None:
        return


@dataclass(frozen=True)
class _Group:
    pid: int
    start: int
    mark: str

    @property
    def line(self) -> str:
        return f"add {self.pid} {self.start} {self.mark}"


class GuardClient:
    """Holds the lease: `async with GuardClient(argv, env) as guard`. A guard that dies is replaced and told all again.

    Leaving the block closes the lease, upon which the guard kills what is still recorded. Entering raises CannotStart.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._plan = LaunchPlan(argv=tuple(argv), env=dict(env))
        self.restarts = 0
        """How often the guard had to be started again; more than zero is worth a look."""
        self._token = secrets.token_hex(16)
        self._marks = 0
        self._groups: dict[int, _Group] = {}
        self._lease: int | None = None
        self._child: Child | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._start()
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(self._keep_alive)
        self._nursery = nursery
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._nursery.cancel_scope.cancel()
        try:
            return await self._stack.__aexit__(kind, error, trace)
        finally:
            await self._end()

    @property
    def pid(self) -> int | None:
        """Pid of the running guard; None between two."""
        return self._child.pid if self._child else None

    def mark(self) -> dict[str, str]:
        """A fresh mark under our token: even a worker that was never recorded is found by it."""
        self._marks += 1
        return {LEASE_VARIABLE: f"{self._token}.{self._marks}"}

    def record(self, pid: int, mark: Mapping[str, str]) -> None:
        """Have the group of this unreaped child killed when we are gone."""
        process = read_process(pid)
        if process is not None:
            self._groups[pid] = _Group(pid, process.start, mark[LEASE_VARIABLE])
            self._tell(self._groups[pid].line)

    def forget(self, pid: int) -> None:
        """Let the guard kill what escaped from this ended child's group, and forget it."""
        if self._groups.pop(pid, None) is not None:
            self._tell(f"end {pid}")

    async def _keep_alive(self) -> None:
        while True:
            started_at = trio.current_time()
            if self._child is not None:
                await self._child.wait()  # no deadline: it lives as long as we do
                self._drop()
            if trio.current_time() - started_at < RETRY_S:
                await trio.sleep(RETRY_S)  # it cannot be started, or ends at once: not a tight loop
            # Short of memory or descriptors: both pass, and the next round tries again.
            with suppress(CannotStart):
                self._start()
                self.restarts += 1

    def _start(self) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            self._child = start_child(self._plan, stdin=read_end, capture=False)
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        os.set_blocking(write_end, False)  # a guard that hangs must not hang us
        self._lease = write_end
        self._tell(f"lease {self._token}", *(group.line for group in self._groups.values()))

    def _tell(self, *lines: str) -> None:
        if self._lease is None:
            return  # between two guards; the next one is told everything
        try:
            os.write(self._lease, "".join(f"{line}\n" for line in lines).encode())
        except (BrokenPipeError, BlockingIOError):
            # Dead or hanging: its end makes `_keep_alive` start another one, which is told everything.
            if self._child is not None:
                self._child.kill_group()

    def _drop(self) -> None:
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None
        if self._child is not None:
            self._child.close()
            self._child = None

    async def _end(self) -> None:
        child, self._child = self._child, None
        self._drop()
        if child is None:
            return
        with trio.move_on_after(KILL_S, shield=True) as scope:  # shield: the guard must be reaped when we are cancelled
            await child.wait()
        if scope.cancelled_caught:
            child.kill_group()
            with trio.move_on_after(KILL_S, shield=True):
                await child.wait()
        child.close()

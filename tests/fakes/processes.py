"""Processes that exist in memory only: each test decides when they end and whether they obey SIGTERM."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from appliance.core.errors import CannotStart
from appliance.supervision.process import LaunchPlan


class FakeChild:
    """A process that ends when the test says so, or by a signal."""

    def __init__(self, pid: int, plan: LaunchPlan, *, obeys_term: bool, term_s: float, holds_pipe: bool) -> None:
        self.pid = pid
        self.plan = plan
        self.signals: list[str] = []
        self.closed = False
        self._obeys_term = obeys_term
        self._term_s = term_s
        self._holds_pipe = holds_pipe
        self.stuck = False
        """The kernel does not end it, whatever it is sent."""
        self._ended = trio.Event()
        self._code: int | None = None
        self._end_at: float | None = None
        self._output: list[bytes] = []

    @property
    def alive(self) -> bool:
        return self._code is None

    def exit(self, code: int, output: bytes = b"") -> None:
        """End with this code after a last piece of output."""
        if self._code is None:
            self._output.append(output)
            self._code = code
            self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        if self._code == -signal.SIGTERM:
            await trio.sleep(self._term_s)
        assert self._code is not None
        return self._code

    async def read_output(self, sink: Callable[[bytes], None]) -> None:
        await self._ended.wait()
        for data in self._output:
            sink(data)
        if self._holds_pipe:
            await trio.sleep_forever()

    def terminate(self) -> None:
        self.signals.append("TERM")
        if self._obeys_term and not self.stuck:
            self.exit(-signal.SIGTERM)

    def kill_group(self) -> None:
        self.signals.append("KILL")
        if not self.stuck:
            self.exit(-signal.SIGKILL)

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeProcesses:
    """A `spawn` for the surroundings; remembers every child."""

    obeys_term: bool = True
    term_s: float = 0.0
    """Time that a child takes to end after SIGTERM."""
    holds_pipe: bool = False
    refuse: str = ""
    """Why no process can be started; empty: they can."""
    children: list[FakeChild] = field(default_factory=list)

    def spawn(self, plan: LaunchPlan) -> FakeChild:
        if self.refuse:
            raise CannotStart(self.refuse)
        child = FakeChild(
            1000 + len(self.children),
            plan,
            obeys_term=self.obeys_term,
            term_s=self.term_s,
            holds_pipe=self.holds_pipe,
        )
        self.children.append(child)
        return child

    @property
    def last(self) -> FakeChild:
        return self.children[-1]

    @property
    def alive(self) -> list[FakeChild]:
        return [child for child in self.children if child.alive]

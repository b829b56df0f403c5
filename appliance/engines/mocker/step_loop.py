"""The step loop: one token for every running stream in each step, at a set pace."""

import math
from collections import deque

import trio

from appliance.core.errors import EngineFailed
from appliance.engines.admission import CLOSED
from appliance.engines.mocker.streams import MockedStream


class StepLoop:
    """Drives all streams of one mocker from one task."""

    def __init__(self, *, step_s: float, max_running: int, fail_after: int | None) -> None:
        self._step_s = step_s
        self._max_running = max_running
        self._fail_after = fail_after
        self._running: dict[MockedStream, trio.Event] = {}
        self._paused: set[MockedStream] = set()
        """Streams that keep their place while the consumer is asked for room."""
        self._waiting: deque[tuple[MockedStream, trio.Event]] = deque()
        self._failures: dict[MockedStream, EngineFailed] = {}
        self._work = trio.Event()
        self.is_running = False

    async def run_stream(self, stream: MockedStream) -> None:
        """Take part in the steps until the stream has finished. Raises `EngineFailed`; cancelling gives it up."""
        turn = trio.Event()
        self._waiting.append((stream, turn))
        try:
            while True:
                self._admit()
                await turn.wait()
                self._raise_failure(stream)
                if stream.finish is not None:
                    return
                await stream.sink.room()
                self._raise_failure(stream)
                turn = trio.Event()
                self._paused.discard(stream)
                self._running[stream] = turn
        finally:
            self._forget(stream)
            self._admit()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Step until cancelled; the streams that are left then fail."""
        self.is_running = True
        task_status.started()
        try:
            while True:
                now = trio.current_time()
                ready = [stream for stream in self._running if stream.ready_at <= now]
                for stream in ready:
                    self._advance(stream)
                if ready:
                    await trio.sleep_until(now + self._step_s)
                else:
                    await self._sleep_until_one_is_ready()
        finally:
            self.is_running = False
            self.fail_all(CLOSED)

    def fail_all(self, why: str) -> None:
        """End every stream with `EngineFailed`."""
        self._failures.update((stream, EngineFailed(why)) for stream in self._paused)
        for stream, turn in [*self._running.items(), *self._waiting]:
            self._failures[stream] = EngineFailed(why)
            turn.set()

    async def _sleep_until_one_is_ready(self) -> None:
        """Wait for the earliest prompt to be computed, or for a new stream, which may be earlier."""
        self._work = trio.Event()
        with trio.move_on_at(min((stream.ready_at for stream in self._running), default=math.inf)):
            await self._work.wait()  # without any stream this is the idle state: no deadline

    def _advance(self, stream: MockedStream) -> None:
        if stream.emitted == self._fail_after:
            self._failures[stream] = EngineFailed("the mocker was told to fail here")
        else:
            stream.step()
            if stream.finish is None and not stream.wants_room:
                return
        if stream.finish is None:
            self._paused.add(stream)
        self._running.pop(stream).set()

    def _raise_failure(self, stream: MockedStream) -> None:
        if failure := self._failures.pop(stream, None):
            raise failure

    def _admit(self) -> None:
        while self._waiting and len(self._running) + len(self._paused) < self._max_running:
            stream, turn = self._waiting.popleft()
            self._running[stream] = turn
        if self._running:
            self._work.set()

    def _forget(self, stream: MockedStream) -> None:
        self._running.pop(stream, None)
        self._paused.discard(stream)
        self._failures.pop(stream, None)
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not stream)

"""The step loop: drives one rank of the modelled engine in real time and hands its tokens to the streams."""

import math
from collections.abc import Callable
from typing import Never

import trio

from appliance.core.errors import EngineFailed
from appliance.core.kv_events import KvEvent
from appliance.core.records import RankLoad
from appliance.engines.admission import CLOSED
from appliance.engines.mocker.streams import MockedStream, PrefillStream
from appliance.simulation.passes import PassResult
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sequence import RunningSequence

MS_PER_S = 1000.0


class StepLoop:
    """Runs all streams of one rank from one task."""

    def __init__(self, scheduler: Scheduler, *, tokens_first: bool, transfer_ms: Callable[[int], float]) -> None:
        """`tokens_first`: a pass's tokens come at its beginning, not at its end.

        `transfer_ms` is how long it takes to hand the KV cache of a prompt over.
        """
        self._scheduler = scheduler
        self._tokens_first = tokens_first
        self._transfer_ms = transfer_ms
        self._streams: dict[RunningSequence, MockedStream] = {}
        self._take_events: Callable[[list[KvEvent]], None] = _nobody
        self._work = trio.Event()
        self.is_running = False

    @property
    def busy(self) -> int:
        """Streams that run or wait."""
        return len(self._streams)

    def load(self, rank: int) -> RankLoad:
        """What the modelled engine has to do."""
        found = self._scheduler.load()
        return RankLoad(rank, found.active_blocks, found.queued_prompt_tokens)

    def publish_kv_events(self, take: Callable[[list[KvEvent]], None]) -> None:
        """Hand every later change of the cache to `take`."""
        self._take_events = take
        self._scheduler.blocks.log.wanted = True

    async def run_stream(self, stream: MockedStream) -> None:
        """Take part in the steps until the stream has finished. Cancelling gives it up.

        Raises `EngineFailed`, and `InvalidRequest` for what the modelled engine cannot run.
        """
        sequence = self._scheduler.submit(stream.simulated())
        self._streams[sequence] = stream
        self._work.set()
        try:
            while True:
                await stream.turn.wait()
                _raise_failure(stream)
                if isinstance(stream, PrefillStream):
                    await trio.sleep(self._transfer_ms(sequence.prompt_tokens) / MS_PER_S)
                    _raise_failure(stream)
                    stream.hand_over()
                if stream.finish is not None:
                    return
                await stream.sink.room()
                _raise_failure(stream)
                stream.turn = trio.Event()
                self._scheduler.resume(sequence)
                self._work.set()
        finally:
            self._streams.pop(sequence, None)
            self._scheduler.cancel(sequence)
            self._work.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Never:
        """Step until cancelled; the streams that are left then fail."""
        self.is_running = True
        task_status.started()
        try:
            while True:
                await self._step()
        finally:
            self.is_running = False
            self.fail_all(CLOSED)

    def fail_all(self, why: str) -> None:
        """End every stream with `EngineFailed`."""
        for stream in self._streams.values():
            stream.failure = EngineFailed(why)
            stream.turn.set()

    async def _step(self) -> None:
        now = trio.current_time()
        done = self._scheduler.step(now * MS_PER_S)
        if done.events:
            self._take_events(done.events)
        for sequence, _ in done.admitted:
            self._streams[sequence].cached_tokens = sequence.cached_tokens
        if not done.did_something:
            self._work = trio.Event()
            with trio.move_on_at(math.inf if done.wake_ms is None else done.wake_ms / MS_PER_S):
                await self._work.wait()  # without any stream this is the idle state: no deadline
            return
        if self._tokens_first:
            self._hand_out(done)
            await trio.sleep_until(now + done.duration_ms / MS_PER_S)
        else:
            await trio.sleep_until(now + done.duration_ms / MS_PER_S)
            self._hand_out(done)

    def _hand_out(self, done: PassResult) -> None:
        streams = self._streams
        for sequence in done.emitted:
            stream = streams.get(sequence)  # None: it was given up during the pass
            if stream is None:
                continue
            index = stream.emitted
            if index < stream.look_at:  # nearly all tokens; calling `step` for them costs a tenth of everything
                stream.emitted = index + 1
                stream.emit([stream.drawn[index]])
            elif stream.step():
                self._attend(sequence, stream)

    def _attend(self, sequence: RunningSequence, stream: MockedStream) -> None:
        """Something is up with a stream: its own task goes on with it, and until then it gets no tokens."""
        if stream.finish is not None:
            self._scheduler.cancel(sequence)
        elif sequence.is_running:
            self._scheduler.hold(sequence)
        stream.turn.set()


def _raise_failure(stream: MockedStream) -> None:
    if stream.failure is not None:
        raise stream.failure


def _nobody(events: list[KvEvent]) -> None:
    pass

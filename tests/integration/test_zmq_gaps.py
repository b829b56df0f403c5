"""What a subscriber to KV events does about gaps, restarts, lost history and garbage, told by forged messages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import zmq

from appliance.events.zmq_frames import Numbered, write_publication, write_reply
from appliance.events.zmq_sockets import ZmqContext, attach, opened, zmq_context
from appliance.events.zmq_subscriber import Source, ZmqSubscriber
from appliance.events.zmq_wire import encode_batch
from tests.helpers.waiting import until
from tests.helpers.zmq_publishers import Recorder, follow, ipc, stored

PATIENCE_S = 10.0


class Forged:
    """A publisher whose every message the test writes itself."""

    def __init__(self, context: ZmqContext, nursery: trio.Nursery, folder: Path) -> None:
        self.source = Source(endpoint=ipc(folder, "live"), replay_endpoint=ipc(folder, "replay"))
        self.history: list[Numbered] = []
        self.asked: list[int] = []
        self.with_topic = True
        self.silent = False
        self._context, self._nursery = context, nursery

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        assert self.source.replay_endpoint
        with opened(self._context, zmq.PUB) as self._live, opened(self._context, zmq.ROUTER) as replays:
            attach(self._live, self.source.endpoint, bind=True)
            attach(replays, self.source.replay_endpoint, bind=True)
            task_status.started()
            while True:
                identity, _, start = await replays.receive()
                self.asked.append(int.from_bytes(start, "big"))
                if self.silent:
                    continue
                wanted = [entry for entry in self.history if entry.sequence >= self.asked[-1]]
                for entry in (*wanted, None):
                    replays.send_nowait(write_reply([identity, b""], b"t" if self.with_topic else None, entry))

    def batch(self, sequence: int, timestamp: float = 1.0, name: int | None = None) -> Numbered:
        payload = encode_batch(timestamp, [stored(sequence if name is None else name)], 0)
        return Numbered(sequence, payload)

    def send(self, entry: Numbered) -> None:
        self._live.send_nowait(write_publication(b"t", *entry))

    async def follow(self, *, has_replays: bool = True, quiet_s: float = 5.0) -> tuple[ZmqSubscriber, Recorder]:
        """A subscriber that has got batch 0, and what it tells."""
        source = self.source if has_replays else Source(endpoint=self.source.endpoint)
        subscriber, recorder = await follow(self._nursery, self._context, source, quiet_s)
        await until(lambda: self.asked == ([0] if has_replays else []), PATIENCE_S)
        with trio.fail_after(PATIENCE_S):
            while not subscriber.counts.bad:  # what repeats a number is a restart, so no batch tells when it listens
                self._live.send_nowait([b"only one frame"])
                await trio.sleep(0.002)
        self.send(self.batch(0))
        await until(lambda: recorder.told, PATIENCE_S)
        return subscriber, recorder


@pytest.fixture
def context() -> Iterator[ZmqContext]:
    with zmq_context() as one:
        yield one


@pytest.fixture
async def forged(context: ZmqContext, nursery: trio.Nursery, tmp_path: Path) -> Forged:
    made = Forged(context, nursery, tmp_path)
    await nursery.start(made.run)
    return made


async def test_a_gap_is_closed_by_both_forms_of_replies(forged: Forged) -> None:
    subscriber, recorder = await forged.follow()
    forged.history = [forged.batch(number) for number in range(6)]
    forged.send(forged.batch(3))
    await until(lambda: len(recorder.told) == 6, PATIENCE_S)
    forged.with_topic = False
    forged.history = [forged.batch(number) for number in range(10)]
    forged.send(forged.batch(4))
    forged.send(forged.batch(9))
    await until(lambda: len(recorder.told) == 10, PATIENCE_S)
    assert recorder.names == list(range(10))
    assert forged.asked == [0, 1, 6]
    assert (subscriber.counts.stale, subscriber.counts.lost) == (1, 0)


async def test_lost_history_voids_what_is_known(forged: Forged) -> None:
    subscriber, recorder = await forged.follow()
    forged.history = [forged.batch(number) for number in (5, 6, 7)]
    forged.send(forged.batch(7))
    await until(lambda: len(recorder.told) == 5, PATIENCE_S)
    assert recorder.names == [0, None, 5, 6, 7]
    assert subscriber.counts.lost == 4


async def test_a_silent_replay_ends_after_its_deadline(forged: Forged) -> None:
    subscriber, recorder = await forged.follow(quiet_s=0.1)
    forged.silent = True
    forged.send(forged.batch(4))
    await until(lambda: len(recorder.told) == 2, PATIENCE_S)
    assert recorder.names == [0, 4]
    assert subscriber.counts.lost == 3


async def test_without_replays_a_gap_is_counted_and_passed_over(forged: Forged) -> None:
    subscriber, recorder = await forged.follow(has_replays=False)
    forged.send(forged.batch(3))
    await until(lambda: len(recorder.told) == 2, PATIENCE_S)
    assert recorder.names == [0, 3]
    assert subscriber.counts.lost == 2


async def test_a_number_that_was_there_before_is_a_restart(forged: Forged) -> None:
    subscriber, recorder = await forged.follow(has_replays=False)
    forged.send(forged.batch(1))
    forged.send(forged.batch(0, timestamp=9.0, name=50))
    forged.send(forged.batch(1, timestamp=9.0, name=51))
    await until(lambda: len(recorder.told) == 5, PATIENCE_S)
    assert recorder.names == [0, 1, None, 50, 51]
    assert (subscriber.counts.restarts, subscriber.counts.lost) == (1, 0)


async def test_a_publisher_that_was_only_away_goes_on(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, nursery, tmp_path)
    forged.history = [forged.batch(number) for number in range(3)]
    subscriber, recorder = await follow(nursery, context, forged.source)
    for _ in range(2):
        async with trio.open_nursery() as engine:
            await engine.start(forged.run)
            await until(lambda: len(recorder.told) == len(forged.history), PATIENCE_S)
            engine.cancel_scope.cancel()
        await until(lambda: not subscriber.connected, PATIENCE_S)
        forged.history.append(forged.batch(len(forged.history)))
    assert recorder.names == [0, 1, 2, 3]
    assert subscriber.counts.restarts == 0


async def test_garbage_is_counted_and_the_next_batch_is_taken(forged: Forged) -> None:
    subscriber, recorder = await forged.follow(has_replays=False)
    bad = subscriber.counts.bad
    forged.send(Numbered(1, b"\xc1 no msgpack"))
    forged._live.send_nowait([b"t", b"short", b""])
    forged.send(Numbered(2, encode_batch(2.0, [])))
    forged.send(forged.batch(3))
    await until(lambda: len(recorder.told) == 2, PATIENCE_S)
    assert subscriber.counts.bad == bad + 2
    assert subscriber.counts.lost == 0

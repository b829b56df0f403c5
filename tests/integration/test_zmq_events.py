"""A subscriber and a publisher of KV events on real ZMQ sockets: gaps, restarts, lost history, late joining."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import zmq

from appliance.core.errors import InvalidRequest
from appliance.core.kv_events import ClearedBlocks, StoredBlocks
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_frames import Numbered, write_publication, write_reply
from appliance.events.zmq_publisher import ZmqPublisher, publishing
from appliance.events.zmq_sockets import MESSAGES_PER_TURN, EndpointUnusable, ZmqContext, attach, opened, zmq_context
from appliance.events.zmq_subscriber import Source, ZmqSubscriber
from appliance.events.zmq_wire import AllBlocksCleared, Dialect, WireForm, encode_batch
from tests.helpers.waiting import until
from tests.helpers.zmq_publishers import BLOCK_SIZE, Recorder, follow, ipc, stored

PATIENCE_S = 10.0


@pytest.fixture
def context() -> Iterator[ZmqContext]:
    with zmq_context() as one:
        yield one


def names(recorder: Recorder) -> list[int | None]:
    """The first block of each event; None where all was forgotten."""
    return [event.block_ids[0] if isinstance(event, StoredBlocks) else None for event in recorder.told]


async def join(publisher: ZmqPublisher, recorder: Recorder) -> None:
    """Publish until the first batch gets through: a subscription takes a moment, and nothing tells when it holds."""
    with trio.fail_after(PATIENCE_S):
        while not recorder.told:
            publisher.publish([AllBlocksCleared()])
            await trio.sleep(0.002)
    last = publisher.publish([stored(1000)])
    await until(lambda: names(recorder)[-1:] == [1000], PATIENCE_S)
    recorder.told.clear()
    assert last + 1 == publisher.next_sequence


async def test_batches_arrive_in_order_over_tcp(context: ZmqContext, nursery: trio.Nursery) -> None:
    async with publishing(context, "tcp://127.0.0.1:*", "tcp://127.0.0.1:*") as publisher:
        source = Source(endpoint=publisher.endpoint, replay_endpoint=publisher.replay_endpoint)
        subscriber, recorder = await follow(nursery, context, source)
        await join(publisher, recorder)
        for name in range(3 * MESSAGES_PER_TURN):
            publisher.publish([stored(name)])
        await until(lambda: len(recorder.told) == 3 * MESSAGES_PER_TURN, PATIENCE_S)
        assert names(recorder) == list(range(3 * MESSAGES_PER_TURN))
        assert subscriber.connected
        assert (subscriber.counts.lost, subscriber.counts.restarts, subscriber.counts.bad) == (0, 0, 0)


@pytest.mark.parametrize("form", WireForm)
@pytest.mark.parametrize("dialect", Dialect)
async def test_a_late_subscriber_gets_what_was_published_before(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path, form: WireForm, dialect: Dialect
) -> None:
    endpoint, replays = ipc(tmp_path, "live"), ipc(tmp_path, "replay")
    async with publishing(context, endpoint, replays, form=form, dialect=dialect) as publisher:
        for name in range(200):
            publisher.publish([stored(name)])
        source = Source(endpoint=endpoint, replay_endpoint=replays, dialect=dialect)
        subscriber, recorder = await follow(nursery, context, source)
        await until(lambda: len(recorder.told) == 200, PATIENCE_S)
        assert names(recorder) == list(range(200))
        assert subscriber.counts.replayed == 200


async def test_a_pause_is_made_up_for(context: ZmqContext, tmp_path: Path, nursery: trio.Nursery) -> None:
    endpoint, replays = ipc(tmp_path, "live"), ipc(tmp_path, "replay")
    recorder = Recorder()
    source = Source(endpoint=endpoint, replay_endpoint=replays)
    subscriber = ZmqSubscriber(context, source, EventConverter(BLOCK_SIZE), recorder)
    async with publishing(context, endpoint, replays) as publisher:
        for first in (0, 10):
            for name in range(first, first + 10):
                publisher.publish([stored(name)])
            async with trio.open_nursery() as listening:
                await listening.start(subscriber.run)
                await until(lambda end=first + 10: len(recorder.told) == end, PATIENCE_S)  # type: ignore[misc]
                listening.cancel_scope.cancel()
            assert not subscriber.connected
    assert names(recorder) == list(range(20))


class Forged:
    """A publisher whose every message the test writes itself."""

    def __init__(self, context: ZmqContext, folder: Path) -> None:
        self.source = Source(endpoint=ipc(folder, "live"), replay_endpoint=ipc(folder, "replay"))
        self.history: list[Numbered] = []
        self.asked: list[int] = []
        self.with_topic = True
        self.silent = False
        self._context = context

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

    async def reach(self, subscriber: ZmqSubscriber, entry: Numbered) -> None:
        """Send until it has arrived; what repeats a number is a restart, so only before the first batch."""
        with trio.fail_after(PATIENCE_S):
            while not subscriber.counts.bad:
                self._live.send_nowait([b"only one frame"])
                await trio.sleep(0.002)
        self.send(entry)


async def test_a_gap_is_closed_by_both_forms_of_replies(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, tmp_path)
    await nursery.start(forged.run)
    subscriber, recorder = await follow(nursery, context, forged.source)
    await until(lambda: forged.asked == [0], PATIENCE_S)
    await forged.reach(subscriber, forged.batch(0))
    forged.history = [forged.batch(number) for number in range(6)]
    forged.send(forged.batch(3))
    await until(lambda: len(recorder.told) == 6, PATIENCE_S)
    forged.with_topic = False
    forged.history = [forged.batch(number) for number in range(10)]
    forged.send(forged.batch(4))
    forged.send(forged.batch(9))
    await until(lambda: len(recorder.told) == 10, PATIENCE_S)
    assert names(recorder) == list(range(10))
    assert forged.asked == [0, 1, 6]
    assert (subscriber.counts.stale, subscriber.counts.lost) == (1, 0)


async def test_lost_history_voids_what_is_known(context: ZmqContext, nursery: trio.Nursery, tmp_path: Path) -> None:
    forged = Forged(context, tmp_path)
    await nursery.start(forged.run)
    subscriber, recorder = await follow(nursery, context, forged.source)
    await forged.reach(subscriber, forged.batch(0))
    await until(lambda: recorder.told, PATIENCE_S)
    forged.history = [forged.batch(number) for number in (5, 6, 7)]
    forged.send(forged.batch(7))
    await until(lambda: len(recorder.told) == 5, PATIENCE_S)
    assert names(recorder) == [0, None, 5, 6, 7]
    assert subscriber.counts.lost == 4


async def test_a_silent_replay_ends_after_its_deadline(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, tmp_path)
    await nursery.start(forged.run)
    subscriber, recorder = await follow(nursery, context, forged.source, quiet_s=0.1)
    await forged.reach(subscriber, forged.batch(0))
    forged.silent = True
    forged.send(forged.batch(4))
    await until(lambda: len(recorder.told) == 2, PATIENCE_S)
    assert names(recorder) == [0, 4]
    assert subscriber.counts.lost == 3


async def test_without_replays_a_gap_is_counted_and_passed_over(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, tmp_path)
    await nursery.start(forged.run)
    subscriber, recorder = await follow(nursery, context, Source(endpoint=forged.source.endpoint))
    await forged.reach(subscriber, forged.batch(0))
    forged.send(forged.batch(3))
    await until(lambda: len(recorder.told) == 2, PATIENCE_S)
    assert names(recorder) == [0, 3]
    assert subscriber.counts.lost == 2


async def test_a_number_that_was_there_before_is_a_restart(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, tmp_path)
    await nursery.start(forged.run)
    subscriber, recorder = await follow(nursery, context, Source(endpoint=forged.source.endpoint))
    await forged.reach(subscriber, forged.batch(0))
    forged.send(forged.batch(1))
    forged.send(forged.batch(0, timestamp=9.0, name=50))
    forged.send(forged.batch(1, timestamp=9.0, name=51))
    await until(lambda: len(recorder.told) == 5, PATIENCE_S)
    assert names(recorder) == [0, 1, None, 50, 51]
    assert (subscriber.counts.restarts, subscriber.counts.lost) == (1, 0)


async def test_a_publisher_that_comes_back_anew_is_noticed_though_it_has_sent_more(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    endpoint, replays = ipc(tmp_path, "live"), ipc(tmp_path, "replay")
    source = Source(endpoint=endpoint, replay_endpoint=replays)
    subscriber, recorder = await follow(nursery, context, source)
    for run, count in ((1, 3), (2, 8)):
        expected = [None] * (run - 1) + [run * 100 + number for number in range(count)]
        recorder.told.clear()
        async with publishing(context, endpoint, replays, clock=lambda run=run: float(run)) as publisher:  # type: ignore[misc]
            for number in range(count):
                publisher.publish([stored(run * 100 + number)])
            await until(lambda expected=expected: names(recorder) == expected, PATIENCE_S)  # type: ignore[misc]
        await until(lambda: not subscriber.connected, PATIENCE_S)
    assert subscriber.counts.restarts == 1


async def test_a_publisher_that_was_only_away_goes_on(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, tmp_path)
    forged.history = [forged.batch(number) for number in range(3)]
    subscriber, recorder = await follow(nursery, context, forged.source)
    for _ in range(2):
        async with trio.open_nursery() as engine:
            await engine.start(forged.run)
            await until(lambda: len(recorder.told) == len(forged.history), PATIENCE_S)
            engine.cancel_scope.cancel()
        await until(lambda: not subscriber.connected, PATIENCE_S)
        forged.history.append(forged.batch(len(forged.history)))
    assert names(recorder) == [0, 1, 2, 3]
    assert subscriber.counts.restarts == 0


async def test_garbage_is_counted_and_the_next_batch_is_taken(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    forged = Forged(context, tmp_path)
    await nursery.start(forged.run)
    subscriber, recorder = await follow(nursery, context, Source(endpoint=forged.source.endpoint))
    await forged.reach(subscriber, forged.batch(0))
    await until(lambda: recorder.told, PATIENCE_S)
    bad = subscriber.counts.bad
    forged.send(Numbered(1, b"\xc1 no msgpack"))
    forged._live.send_nowait([b"t", b"short", b""])
    forged.send(Numbered(2, encode_batch(2.0, [])))
    forged.send(forged.batch(3))
    await until(lambda: len(recorder.told) == 2, PATIENCE_S)
    assert subscriber.counts.bad == bad + 2
    assert subscriber.counts.lost == 0


async def test_the_publisher_passes_over_requests_that_are_none(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    endpoint, replays = ipc(tmp_path, "live"), ipc(tmp_path, "replay")
    with opened(context, zmq.DEALER) as hostile:
        async with publishing(context, endpoint, replays) as publisher:
            attach(hostile, replays, bind=False)
            for frames in ([b"x"], [b"", b"short"], [b"", b"", b"", b""]):
                hostile.send_nowait(frames)
            publisher.publish([stored(1)])
            _, recorder = await follow(nursery, context, Source(endpoint=endpoint, replay_endpoint=replays))
            await until(lambda: recorder.told == [StoredBlocks([1], recorder_hashes(1))], PATIENCE_S)
            await until(lambda: publisher.bad_requests == 3, PATIENCE_S)


def recorder_hashes(name: int) -> list[int]:
    """Our hash of a stored block."""
    from appliance.routing.block_hash import local_hashes

    return list(local_hashes(stored(name).token_ids, BLOCK_SIZE))


async def test_topics_that_were_not_asked_for_are_left_out(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    async with (
        publishing(context, ipc(tmp_path, "a"), topic="kv-events") as wanted,
        publishing(context, ipc(tmp_path, "b"), topic="load") as other,
    ):
        _, all_of_a = await follow(nursery, context, Source(endpoint=wanted.endpoint, topic="kv"))
        _, none_of_b = await follow(nursery, context, Source(endpoint=other.endpoint, topic="kv"))
        _, all_of_b = await follow(nursery, context, Source(endpoint=other.endpoint, topic=""))
        await join(wanted, all_of_a)
        await join(other, all_of_b)
        assert none_of_b.told == []


async def test_the_consumer_may_be_the_one_who_listens(
    context: ZmqContext, nursery: trio.Nursery, tmp_path: Path
) -> None:
    endpoint = ipc(tmp_path, "live")
    subscriber, recorder = await follow(nursery, context, Source(endpoint=endpoint, bind=True))
    async with publishing(context, endpoint, bind=False) as publisher:
        await join(publisher, recorder)
        assert subscriber.connected
    await until(lambda: not subscriber.connected, PATIENCE_S)


async def test_a_taken_endpoint_is_refused(context: ZmqContext) -> None:
    async with publishing(context, "tcp://127.0.0.1:*") as first:
        with pytest.raises(EndpointUnusable, match=f"cannot listen on {first.endpoint}"):
            async with publishing(context, first.endpoint):
                pass


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("localhost:5557", "missing scheme"),
        ("", "missing scheme"),
        ("udp://x:1", "unknown scheme `udp`"),
        ("ipc://", "missing address"),
        ("tcp://127.0.0.1", "missing port"),
        ("tcp://127.0.0.1:x", "no port `x`"),
        ("tcp://127.0.0.1:0", "no port `0`"),
        ("tcp://127.0.0.1:70000", "no port `70000`"),
        ("tcp://*:5557", "a wildcard can be bound but not connected to"),
    ],
)
def test_what_is_no_endpoint_is_said(endpoint: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Source(endpoint=endpoint)
    assert caught.value.message == f"invalid ZMQ endpoint `{endpoint}`: {problem}"


async def test_cleared_is_passed_on(context: ZmqContext, nursery: trio.Nursery, tmp_path: Path) -> None:
    endpoint, replays = ipc(tmp_path, "live"), ipc(tmp_path, "replay")
    async with publishing(context, endpoint, replays) as publisher:
        publisher.publish([stored(1), AllBlocksCleared(), stored(2)])
        _, recorder = await follow(nursery, context, Source(endpoint=endpoint, replay_endpoint=replays))
        await until(lambda: recorder.told, PATIENCE_S)
        assert recorder.told[1] == ClearedBlocks()
        assert names(recorder) == [1, None, 2]

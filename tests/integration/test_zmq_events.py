"""A subscriber and a publisher of KV events on real ZMQ sockets: order, late joining, topics, endpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import zmq

from appliance.core.errors import InvalidRequest
from appliance.core.kv_events import ClearedBlocks, StoredBlocks
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_publisher import ZmqPublisher, publishing
from appliance.events.zmq_sockets import MESSAGES_PER_TURN, EndpointUnusable, ZmqContext, attach, opened, zmq_context
from appliance.events.zmq_subscriber import Source, ZmqSubscriber
from appliance.events.zmq_wire import AllBlocksCleared, Dialect, WireForm
from tests.helpers.waiting import until
from tests.helpers.zmq_publishers import BLOCK_SIZE, Recorder, follow, ipc, stored

PATIENCE_S = 10.0


@pytest.fixture
def context() -> Iterator[ZmqContext]:
    with zmq_context() as one:
        yield one


async def join(publisher: ZmqPublisher, recorder: Recorder) -> None:
    """Publish until the first batch gets through: a subscription takes a moment, and nothing tells when it holds."""
    with trio.fail_after(PATIENCE_S):
        while not recorder.told:
            publisher.publish([AllBlocksCleared()])
            await trio.sleep(0.002)
    last = publisher.publish([stored(1000)])
    await until(lambda: recorder.names[-1:] == [1000], PATIENCE_S)
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
        assert recorder.names == list(range(3 * MESSAGES_PER_TURN))
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
        assert recorder.names == list(range(200))
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
    assert recorder.names == list(range(20))


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
            await until(lambda expected=expected: recorder.names == expected, PATIENCE_S)  # type: ignore[misc]
        await until(lambda: not subscriber.connected, PATIENCE_S)
    assert subscriber.counts.restarts == 1


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
        assert recorder.names == [1, None, 2]

"""WorkerTransport: what every way to a worker keeps to, over a unix socket and over an in-process pair."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import (
    ApplianceError,
    BodyTooLarge,
    EngineFailed,
    InvalidRequest,
    NotFound,
    NotImplementedHere,
    Overloaded,
    WorkerLost,
    WorkerTimeout,
)
from appliance.core.identity import Digest, WorkerId
from appliance.core.requests import FileRef
from appliance.transport.limits import LinkLimits
from tests.fakes.stream_sinks import RecordingSink
from tests.fakes.token_engine import SpellingEngine, TokenEngine, make_card
from tests.helpers.cancel_points import cancel_at_every_await
from tests.helpers.faulty_stream import FaultyStream
from tests.helpers.link_rig import SHORT_LIMITS, WORKER, LinkRig, Medium, make_request, open_link_rig
from tests.helpers.waiting import until


@pytest.fixture(params=["unix", "pair"])
def medium(request: pytest.FixtureRequest) -> Medium:
    medium: Medium = request.param
    return medium


@pytest.fixture
async def rig(medium: Medium, tmp_path: Path) -> AsyncIterator[LinkRig]:
    async with open_link_rig(medium, tmp_path) as rig:
        await rig.connect()
        yield rig


async def run_stream(rig: LinkRig, sink: RecordingSink, tokens: int = 5) -> None:
    with rig.links.open(WORKER, make_request(tokens), sink):
        with trio.fail_after(5):
            await sink.ended.wait()


async def test_tokens_come_in_order_and_end_once(rig: LinkRig) -> None:
    sink = RecordingSink()
    await run_stream(rig, sink, 50)
    await rig.settle()
    assert sink.tokens == list(range(1, 51))
    assert (sink.finish, sink.errors, sink.unflushed, sink.late) == ("length", [], 0, 0)
    assert rig.server.load.served == 1
    assert rig.engine.cancelled == 0


async def test_chunks_of_one_read_are_flushed_once(rig: LinkRig) -> None:
    sink = RecordingSink()
    await run_stream(rig, sink, 100)
    assert sink.flushes < 100


async def test_thousand_streams_at_once(rig: LinkRig) -> None:
    sinks = [RecordingSink() for _ in range(1000)]
    async with trio.open_nursery() as nursery:
        for sink in sinks:
            nursery.start_soon(run_stream, rig, sink, 7)
    await rig.settle()
    assert all(sink.tokens == [1, 2, 3, 4, 5, 6, 7] and sink.finish == "length" for sink in sinks)
    assert rig.engine.largest == 1000


async def test_unknown_worker_is_lost_on_entry(rig: LinkRig) -> None:
    with pytest.raises(WorkerLost, match="other"), rig.links.open(WorkerId("other"), make_request(), RecordingSink()):
        pass
    with pytest.raises(WorkerLost):
        await rig.links.probe(WorkerId("other"))


async def test_leaving_a_stream_cancels_it(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(hang_at=2)) as rig:
        await rig.connect()
        left, kept = RecordingSink(), RecordingSink()
        with rig.links.open(WORKER, make_request(), kept):
            with rig.links.open(WORKER, make_request(), left):
                await left.began.wait()
            await until(lambda: rig.engine.running == 1)
            assert rig.engine.cancelled == 1
            assert not left.ended.is_set()
            assert not kept.ended.is_set()
        await rig.settle()


async def test_late_chunks_of_a_left_stream_are_dropped(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path) as rig:
        stream = await rig.connect()
        left, later = RecordingSink(), RecordingSink()
        with rig.links.open(WORKER, make_request(), left):
            stream.change(hold_reads=True)
            await until(lambda: rig.server.load.served)
        stream.change(hold_reads=False)
        await run_stream(rig, later)
        assert (left.tokens, left.errors) == ([], [])
        assert later.tokens == [1, 2, 3, 4, 5]


async def test_cancel_at_every_await_leaks_nothing(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(step_s=0.001)) as rig:
        await rig.connect()

        async def act() -> None:
            await run_stream(rig, RecordingSink(), 3)
            await rig.links.embed(WORKER, make_request(task="embed"))
            await rig.links.probe(WORKER)

        assert await cancel_at_every_await(act, rig.settle) >= 3


async def test_cancel_at_every_await_of_connect(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path) as rig:

        async def act() -> None:
            if medium == "unix":
                await rig.links.connect(WORKER, str(rig.path))
            else:
                await rig.connect()
            await rig.links.disconnect(WORKER)

        async def check() -> None:
            await rig.links.disconnect(WORKER)
            await until(lambda: not rig.server.links and not rig.links.workers())

        assert await cancel_at_every_await(act, check) >= 2


@pytest.mark.parametrize("fault", ["kill", "truncate", "garbage", "huge", "drop", "stall"])
async def test_lost_worker_ends_every_stream_once(medium: Medium, tmp_path: Path, fault: str) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(hang_at=1), limits=SHORT_LIMITS) as rig:
        stream = await rig.connect()
        sinks = [RecordingSink() for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for sink in sinks:
                nursery.start_soon(run_stream, rig, sink)
            for sink in sinks:
                await sink.began.wait()
            break_link(stream, fault)
        for sink in sinks:
            assert [type(error) for error in sink.errors] == [WorkerLost]
            assert (sink.tokens, sink.late, sink.unflushed) == ([1], 0, 0)
        assert [worker for worker, _ in rig.lost] == [WORKER]
        with pytest.raises(WorkerLost):
            await run_stream(rig, RecordingSink())
        await rig.settle()
        await rig.connect()
        assert await rig.links.probe(WORKER) < 1


def break_link(stream: FaultyStream, fault: str) -> None:
    match fault:
        case "kill":
            stream.kill()
        case "truncate":
            stream.change(truncate_after=3)
        case "garbage":
            stream.change(garbage=b"HTTP/1.1 400 Bad Request\r\n\r\n")
        case "huge":
            stream.change(garbage=b"\xff\xff\xff\xff")
        case "drop":
            stream.change(drop_sends=True)
        case "stall":
            stream.change(stalled=True)


async def test_stream_that_has_ended_hears_nothing_of_a_loss(rig: LinkRig) -> None:
    sink = RecordingSink()
    with rig.links.open(WORKER, make_request(), sink):
        await sink.ended.wait()
        assert rig.links.workers()[WORKER].open_streams == 0
        await rig.links.disconnect(WORKER)
        await until(lambda: not rig.server.links)
    assert (sink.finish, sink.errors, sink.late) == ("length", [], 0)


async def test_disconnect_ends_streams_and_is_no_loss(rig: LinkRig) -> None:
    rig.engine.hang_at = 1
    sink = RecordingSink()
    with rig.links.open(WORKER, make_request(), sink):
        await sink.began.wait()
        await rig.links.disconnect(WORKER)
        await sink.ended.wait()
    assert [type(error) for error in sink.errors] == [WorkerLost]
    assert rig.lost == []
    await rig.settle()


async def test_engine_fault_is_neutral_and_ours_keep_their_words(rig: LinkRig) -> None:
    rig.engine.fail_at = 2
    strange, ours = RecordingSink(), RecordingSink()
    await run_stream(rig, strange)
    rig.engine.fault = InvalidRequest("cannot use this grammar")
    await run_stream(rig, ours)
    assert (strange.tokens, strange.late, strange.unflushed) == ([1, 2], 0, 0)
    assert [type(error) for error in strange.errors] == [EngineFailed]
    assert "secret" not in str(strange.errors[0])
    assert [(type(error), str(error)) for error in ours.errors] == [(InvalidRequest, "cannot use this grammar")]
    await rig.settle()


async def test_failure_alone_in_a_read_is_flushed(rig: LinkRig) -> None:
    rig.engine.fail_at = 0
    sink = RecordingSink()
    await run_stream(rig, sink)
    assert (len(sink.errors), sink.unflushed) == (1, 0)


async def test_engine_that_forgets_the_end_fails_its_stream(rig: LinkRig) -> None:
    rig.engine.forget_finish = True
    sink = RecordingSink()
    await run_stream(rig, sink)
    assert [type(error) for error in sink.errors] == [EngineFailed]


async def test_deadline_of_a_request_is_kept_by_the_worker(rig: LinkRig) -> None:
    rig.engine.hang_at = 1
    sink = RecordingSink()
    with rig.links.open(WORKER, make_request(deadline_s=0.05), sink):
        with trio.fail_after(1):
            await sink.ended.wait()
    assert [type(error) for error in sink.errors] == [WorkerTimeout]
    assert rig.engine.cancelled == 1


@pytest.mark.parametrize("call", ["on_chunk", "flush"])
async def test_sink_that_raises_ends_only_its_stream(medium: Medium, tmp_path: Path, call: str) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(step_s=0.002)) as rig:
        await rig.connect()
        bad, good = RecordingSink(call, "on_error"), RecordingSink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_stream, rig, good, 20)
            await run_stream(rig, bad, 20)
        assert len(bad.errors) == 1
        assert len(good.tokens) == 20
        await rig.settle()
        assert rig.engine.cancelled == 1
        assert rig.lost == []


async def test_too_many_streams_are_refused(medium: Medium, tmp_path: Path) -> None:
    limits = LinkLimits(max_streams=2)
    async with open_link_rig(medium, tmp_path, TokenEngine(hang_at=1), limits=limits) as rig:
        await rig.connect()
        refused = RecordingSink()
        with (
            rig.links.open(WORKER, make_request(), RecordingSink()),
            rig.links.open(WORKER, make_request(), RecordingSink()),
        ):
            await run_stream(rig, refused)
        assert [type(error) for error in refused.errors] == [Overloaded]
        await rig.settle()


async def test_load_is_reported(medium: Medium, tmp_path: Path) -> None:
    engine, card = TokenEngine(hang_at=1), make_card(max_num_seqs=2)
    async with open_link_rig(medium, tmp_path, engine, card=card) as rig:
        await rig.connect()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(run_stream, rig, RecordingSink())
            await trio.testing.wait_all_tasks_blocked(0.01)
            await rig.links.probe(WORKER)
            link = rig.links.workers()[WORKER]
            assert (link.running, link.waiting) == (2, 3)
            nursery.cancel_scope.cancel()


async def test_draining_lets_streams_end_and_refuses_new_ones(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(step_s=0.01)) as rig:
        await rig.connect()
        old, new = RecordingSink(), RecordingSink()
        with rig.links.open(WORKER, make_request(10), old):
            await old.began.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.server.drain, 5.0)
                await trio.sleep(0.005)
                await run_stream(rig, new)
            await old.ended.wait()
        assert old.tokens == list(range(1, 11))
        assert [type(error) for error in new.errors] == [Overloaded]
        assert rig.draining == [WORKER]


async def test_drain_evicts_after_its_deadline(rig: LinkRig) -> None:
    rig.engine.hang_at = 1
    sink = RecordingSink()
    with rig.links.open(WORKER, make_request(), sink):
        await sink.began.wait()
        with trio.fail_after(1):
            await rig.server.drain(0.02)
            await sink.ended.wait()
    assert [type(error) for error in sink.errors] == [WorkerLost]
    assert rig.lost == []


async def test_embedding(rig: LinkRig) -> None:
    assert await rig.links.embed(WORKER, make_request(task="embed")) == [0.5, -1.0, 2.0]
    rig.engine.fail_at, rig.engine.fault = 0, InvalidRequest("cannot embed with this model")
    with pytest.raises(InvalidRequest, match="cannot embed"):
        await rig.links.embed(WORKER, make_request(task="embed"))


async def test_cancelled_embedding_stops_the_engine(rig: LinkRig) -> None:
    rig.engine.hang_at = 0
    with trio.move_on_after(0.02):
        await rig.links.embed(WORKER, make_request(task="embed"))
    await rig.settle()
    assert rig.engine.cancelled == 1


async def test_embedding_of_a_lost_worker(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(hang_at=0)) as rig:
        stream = await rig.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_soon, stream)
            with pytest.raises(WorkerLost):
                await rig.links.embed(WORKER, make_request(task="embed"))


async def kill_soon(stream: FaultyStream) -> None:
    await trio.sleep(0.01)
    stream.kill()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 300_000])
async def test_file_is_read_whole(medium: Medium, tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    ref = FileRef(Digest(hashlib.sha256(content).hexdigest()), size)
    engine = TokenEngine(content={ref.digest: content})
    async with open_link_rig(medium, tmp_path, engine, card=make_card({"f": ref})) as rig:
        await rig.connect()
        assert await rig.links.read_file(WORKER, ref.digest) == content
        await rig.settle()


async def test_wrong_files(medium: Medium, tmp_path: Path) -> None:
    forged = FileRef(Digest("0" * 64), 100)
    long = FileRef(Digest(hashlib.sha256(b"long").hexdigest()), 3)
    gone = FileRef(Digest("1" * 64), 100)
    engine = TokenEngine(content={forged.digest: b"other bytes", long.digest: b"long"})
    card = make_card({"forged": forged, "long": long, "gone": gone})
    async with open_link_rig(medium, tmp_path, engine, card=card) as rig:
        await rig.connect()
        with pytest.raises(ApplianceError, match="another digest"):
            await rig.links.read_file(WORKER, forged.digest)
        with pytest.raises(ApplianceError, match="more than the 3 bytes"):
            await rig.links.read_file(WORKER, long.digest)
        with pytest.raises(NotFound, match="does not have it"):
            await rig.links.read_file(WORKER, gone.digest)
        with pytest.raises(NotFound, match="not on the card"):
            await rig.links.read_file(WORKER, Digest("2" * 64))


async def test_tokenizer_of_the_worker(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, SpellingEngine(), limits=SHORT_LIMITS) as rig:
        await rig.connect()
        assert await rig.links.tokenize(WORKER, "hé", special=False) == [104, 195, 169]
        assert await rig.links.detokenize(WORKER, [104, 195, 169]) == "hé".encode()
        with pytest.raises(WorkerTimeout):
            await rig.links.tokenize(WORKER, "hang", special=False)


async def test_calls_that_ended_free_their_place(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, SpellingEngine(), limits=LinkLimits(max_streams=2)) as rig:
        await rig.connect()
        for _ in range(5):
            assert await rig.links.tokenize(WORKER, "a", special=True) == [97]


async def test_worker_without_a_tokenizer_says_so(rig: LinkRig) -> None:
    with pytest.raises(NotImplementedHere):
        await rig.links.tokenize(WORKER, "x", special=False)


async def test_probe_of_a_deaf_worker_times_out(medium: Medium, tmp_path: Path) -> None:
    limits = LinkLimits(call_s=0.05)
    async with open_link_rig(medium, tmp_path, limits=limits) as rig:
        stream = await rig.connect()
        assert 0 <= await rig.links.probe(WORKER) < 0.05
        stream.change(drop_sends=True)
        with pytest.raises(WorkerTimeout):
            await rig.links.probe(WORKER)


async def test_slow_link_only_delays(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, limits=SHORT_LIMITS) as rig:
        stream = await rig.connect()
        stream.change(delay_s=0.03)
        sink = RecordingSink()
        await run_stream(rig, sink, 20)
        assert sink.tokens == list(range(1, 21))


async def test_request_that_fits_no_frame_is_refused_alone(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, limits=LinkLimits(max_frame_bytes=1000)) as rig:
        await rig.connect()
        request = make_request()
        request.token_ids.extend(range(100_000, 101_000))
        with pytest.raises(BodyTooLarge), rig.links.open(WORKER, request, RecordingSink()):
            pass
        sink = RecordingSink()
        await run_stream(rig, sink)
        assert sink.finish == "length"


async def test_after_a_drain_that_is_taken_back_front_ends_connect_anew(rig: LinkRig) -> None:
    await rig.server.drain(0.0)
    rig.server.reopen()
    await until(lambda: [worker for worker, _ in rig.lost] == [WORKER])
    await rig.connect()
    sink = RecordingSink()
    await run_stream(rig, sink, 3)
    assert sink.tokens == [1, 2, 3]

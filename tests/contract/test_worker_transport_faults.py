"""WorkerTransport when something goes wrong: lost workers, cancelled tasks, engines and sinks that fail."""

from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import BodyTooLarge, EngineFailed, InvalidRequest, WorkerLost
from appliance.transport.limits import LinkLimits
from tests.fakes.stream_sinks import RecordingSink
from tests.fakes.token_engine import TokenEngine
from tests.helpers.cancel_points import cancel_at_every_await
from tests.helpers.faulty_stream import FaultyStream
from tests.helpers.link_rig import SHORT_LIMITS, WORKER, LinkRig, Medium, make_request, open_link_rig, run_stream
from tests.helpers.waiting import until


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

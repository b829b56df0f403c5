"""WorkerTransport: what every way to a worker keeps to, over a unix socket and over an in-process pair."""

from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import Overloaded, WorkerLost, WorkerTimeout
from appliance.core.identity import WorkerId
from appliance.transport.limits import LinkLimits
from tests.fakes.stream_sinks import RecordingSink
from tests.fakes.token_engine import TokenEngine, make_card
from tests.helpers.link_rig import WORKER, LinkRig, Medium, make_request, open_link_rig, run_stream
from tests.helpers.waiting import until


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


async def test_deadline_of_a_request_is_kept_by_the_worker(rig: LinkRig) -> None:
    rig.engine.hang_at = 1
    sink = RecordingSink()
    with rig.links.open(WORKER, make_request(deadline_s=0.05), sink):
        with trio.fail_after(1):
            await sink.ended.wait()
    assert [type(error) for error in sink.errors] == [WorkerTimeout]
    assert rig.engine.cancelled == 1


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


async def test_after_a_drain_that_is_taken_back_front_ends_connect_anew(rig: LinkRig) -> None:
    await rig.server.drain(0.0)
    rig.server.reopen()
    await until(lambda: [worker for worker, _ in rig.lost] == [WORKER])
    await rig.connect()
    sink = RecordingSink()
    await run_stream(rig, sink, 3)
    assert sink.tokens == [1, 2, 3]

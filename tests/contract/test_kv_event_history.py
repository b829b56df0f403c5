"""KvEventHistory: asking a worker what its cache holds, over a unix socket, an in-process pair and the fake."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import trio

from appliance.core.errors import NotFound, NotImplementedHere, WorkerLost
from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply, RemovedBlocks, ReplyForm, StoredBlocks
from appliance.core.ports import KvEventHistory
from appliance.transport.links import open_links
from tests.fakes.token_engine import make_card
from tests.fakes.transport import FakeTransport
from tests.helpers.cancel_points import cancel_at_every_await
from tests.helpers.link_rig import WORKER, open_link_rig
from tests.helpers.waiting import until

PIECES = [
    KvReply(ReplyForm.TREE, 9, events=[StoredBlocks([1, 2**64 - 1], [3, 4])], last=False),
    KvReply(ReplyForm.TREE, 9, events=[StoredBlocks([5], [6], 1), RemovedBlocks([5])]),
]


class ScriptedLog:
    """Rank 0 has a tree of two pieces and no later event."""

    def answer(self, rank: int, start_id: int | None) -> Iterable[KvReply]:
        if rank:
            raise NotFound(f"no rank {rank}")
        return PIECES if start_id is None else [KvReply(ReplyForm.TOO_NEW, 9)]


@pytest.fixture(params=["unix", "pair", "fake"])
async def history(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KvEventHistory]:
    if request.param == "fake":
        fake = FakeTransport()
        fake.cards[WORKER] = make_card()
        fake.kv_logs[WORKER] = ScriptedLog()
        await fake.connect(WORKER, "")
        yield fake
        return
    async with open_link_rig(request.param, tmp_path, kv_log=ScriptedLog()) as rig:
        await rig.connect()
        yield rig.links


async def test_pieces_come_in_order(history: KvEventHistory) -> None:
    heard: list[KvReply] = []
    with trio.fail_after(2):
        await history.ask_kv_events(WORKER, 0, None, heard.append)
        assert heard == PIECES
        await history.ask_kv_events(WORKER, 0, 10, heard.append)
    assert heard[2:] == [KvReply(ReplyForm.TOO_NEW, 9)]


async def test_what_cannot_be_answered_is_raised(history: KvEventHistory) -> None:
    with pytest.raises(NotFound):
        await history.ask_kv_events(WORKER, 1, None, lambda _: None)
    with pytest.raises(WorkerLost):
        await history.ask_kv_events(WorkerId("other"), 0, None, lambda _: None)


async def test_cancelling_leaks_nothing(history: KvEventHistory) -> None:
    async def act() -> None:
        await history.ask_kv_events(WORKER, 0, None, lambda _: None)

    async def check() -> None:
        heard: list[KvReply] = []
        await history.ask_kv_events(WORKER, 0, None, heard.append)
        assert heard == PIECES

    assert await cancel_at_every_await(act, check) >= 2


async def test_an_engine_without_events_says_so(tmp_path: Path) -> None:
    async with open_link_rig("pair", tmp_path) as rig:
        await rig.connect()
        with pytest.raises(NotImplementedHere):
            await rig.links.ask_kv_events(WORKER, 0, None, lambda _: None)


async def test_every_front_end_that_asked_gets_the_batch(tmp_path: Path) -> None:
    events: list[KvEvent] = [StoredBlocks([1], [2]), RemovedBlocks([1]), ClearedBlocks()]
    heard: list[tuple[WorkerId, int, int, list[KvEvent]]] = []
    async with (
        open_link_rig("unix", tmp_path) as rig,
        open_links(on_kv_events=lambda *batch: heard.append(batch)) as second,
    ):
        await rig.connect()
        await second.connect(WORKER, str(rig.path))
        rig.server.publish_kv_events(0, 1, events)  # nobody has asked, nobody hears
        for links in (rig.links, second):
            with pytest.raises(NotImplementedHere):
                await links.ask_kv_events(WORKER, 0, None, lambda _: None)
        rig.server.publish_kv_events(3, 7, events)
        await until(lambda: heard == rig.kv_events == [(WORKER, 3, 7, events)])

"""What vLLM and SGLang do alike, over their stand-ins: abort by name, adapters, cache events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from appliance.core.errors import InvalidRequest, ModelNotReady, NotFound
from appliance.core.kv_events import KvEvent, StoredBlocks
from appliance.core.ports import AdapterHost, KvEventSource
from appliance.engines.foreign.engine import ForeignEngine
from appliance.engines.sglang import SglangEngine
from appliance.engines.vllm import VllmEngine
from appliance.events.following import Follower
from appliance.routing.block_hash import local_hashes
from tests.helpers.engines import CollectingSink, answer, make_request, running
from tests.helpers.foreign_engines import has_ability, seen, serving, stand_in
from tests.helpers.waiting import until

pytestmark = pytest.mark.usefixtures("deadline")


@dataclass(frozen=True)
class Server:
    """How one of the servers is spoken to."""

    engine: type[ForeignEngine]
    stream_name: str
    """Member of a request's body that names the stream."""
    adapter_name: str
    """Member that says which adapter is meant."""
    block_tokens: int
    block_args: Mapping[str, str] = field(default_factory=dict)


SERVERS = [
    Server(VllmEngine, "request_id", "model", 16),
    Server(SglangEngine, "rid", "lora_path", 8, {"page_size": "8"}),
]


@pytest.fixture(params=SERVERS, ids=lambda server: server.engine.name)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.param
    return found


async def test_a_cancelled_stream_is_aborted_by_name_and_frees_its_slot(server: Server) -> None:
    async with serving(server.engine, fake_step_s="0.01") as engine:
        sink = CollectingSink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.generate, make_request(max_tokens=400, ignore_eos=True), sink)
            await sink.first.wait()
            nursery.cancel_scope.cancel()
        found = await seen(engine)
        while not found["aborted"] or found["running"]:
            await trio.sleep(0.01)
            found = await seen(engine)
        assert found["aborted"] == [found["bodies"][0][server.stream_name]]


async def test_adapters_come_and_go(server: Server, tmp_path: Path) -> None:
    poem = make_request(max_tokens=1, ignore_eos=True, lora="poet")
    async with serving(server.engine, enable_lora="true") as engine:
        assert has_ability(engine, AdapterHost)
        await engine.load_adapter("poet", str(tmp_path))
        await answer(engine, poem)
        assert (await seen(engine))["bodies"][-1][server.adapter_name] == "poet"
        await engine.unload_adapter("poet")
        with pytest.raises(ModelNotReady, match="'poet' is not loaded here"):  # front ends try another worker
            await answer(engine, poem)
        with pytest.raises(NotFound):
            await engine.unload_adapter("poet")
        with pytest.raises(InvalidRequest):
            await engine.load_adapter("x", str(tmp_path / "nothing"))


async def test_cache_events_are_followed_from_the_first_one(server: Server) -> None:
    engine = stand_in(server.engine, follow=Follower(), args=server.block_args)
    prompt = list(range(2 * server.block_tokens + 4))
    events: list[KvEvent] = []
    assert has_ability(engine, KvEventSource)
    async with running(engine) as card:
        assert (card.kv_events, card.block_size) == (True, server.block_tokens)
        await answer(engine, make_request(prompt, max_tokens=1, ignore_eos=True))
        engine.publish_kv_events(lambda rank, batch: events.extend(batch))
        await until(lambda: len(events) == 2, deadline_s=10)
    stored = [event for event in events if isinstance(event, StoredBlocks)]
    assert [event.local_hashes for event in stored] == [[one] for one in local_hashes(prompt, server.block_tokens)]
    assert [event.parent for event in stored] == [None, stored[0].block_ids[0]]

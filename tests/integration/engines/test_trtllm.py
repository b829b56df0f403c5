"""TensorRT-LLM over its stand-in: token ids where it gives them, its cache events, sleep, and older servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import InvalidRequest, UsageError
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks
from appliance.core.ports import KvEventSource, Sleeper
from appliance.core.requests import Guided, KvTransfer
from appliance.engines.trtllm import TrtLlmEngine
from appliance.engines.trtllm.engine import BLOCK_TOKENS
from appliance.routing.block_hash import local_hashes
from tests.helpers.engines import answer, make_request, running
from tests.helpers.foreign_engines import has_ability, seen, stand_in
from tests.helpers.waiting import until

pytestmark = pytest.mark.usefixtures("deadline")


@dataclass
class Listener:
    """What somebody who follows the cache hears."""

    events: list[KvEvent] = field(default_factory=list)
    ranks: set[int] = field(default_factory=set)

    def take(self, rank: int, events: list[KvEvent]) -> None:
        self.ranks.add(rank)
        self.events += events

    def hashes(self) -> list[int]:
        return [one for event in self.events if isinstance(event, StoredBlocks) for one in event.local_hashes]


@asynccontextmanager
async def trtllm(**args: str) -> AsyncGenerator[Any, None]:
    engine = stand_in(TrtLlmEngine, args=args)
    async with running(engine) as card:
        engine.card = card
        yield engine


async def test_token_ids_go_in_and_come_out() -> None:
    async with trtllm() as engine:
        assert (engine.card.io, engine.card.block_size, engine.card.total_kv_blocks) == ("tokens", BLOCK_TOKENS, 2048)
        prompt = list(range(20, 120))
        request = make_request(prompt, max_tokens=5, ignore_eos=True, logprobs=0)
        first = await answer(engine, request)
        second = await answer(engine, request)
        assert (len(first.token_ids), first.finish) == (5, "length")
        assert first.token_ids == second.token_ids
        assert second.usage is not None
        assert second.usage.cached_tokens == len(prompt)
        body = (await seen(engine))["bodies"][-1]
        assert (body["prompt"], body["detokenize"], body["logprobs"]) == (prompt, False, 1)


async def test_an_end_token_is_not_shown() -> None:
    async with trtllm() as engine:
        whole = await answer(engine, make_request(max_tokens=5, ignore_eos=True))
        stops = make_request(max_tokens=5, stop_token_ids=(whole.token_ids[2],))
        ended = await answer(engine, stops)
        assert (ended.token_ids, ended.finish) == (whole.token_ids[:2], "stop")


@pytest.mark.parametrize(
    ("guided", "told"),
    [
        (Guided(json_schema='{"type": "object"}'), {"type": "json_schema", "json_schema": {"type": "object"}}),
        (Guided(regex="a+"), {"type": "regex", "regex": "a+"}),
        (Guided(choice=("a.", "b")), {"type": "regex", "regex": r"(a\.)|(b)"}),
        (Guided(grammar="root ::= 'a'"), {"type": "ebnf", "ebnf": "root ::= 'a'"}),
    ],
)
async def test_constraints_have_the_servers_names(guided: Guided, told: dict[str, Any]) -> None:
    async with trtllm() as engine:
        await answer(engine, make_request(max_tokens=1, guided=guided))
        assert (await seen(engine))["bodies"][-1]["response_format"] == told


async def test_a_request_cannot_be_split() -> None:
    async with trtllm() as engine:
        with pytest.raises(InvalidRequest, match="cannot split"):
            await answer(engine, make_request(max_tokens=1, kv_transfer=KvTransfer(phase="prefill")))


async def test_cache_events_tell_whole_blocks_and_what_is_gone() -> None:
    async with trtllm() as engine:
        assert (engine.card.kv_events, has_ability(engine, KvEventSource)) == (True, True)
        listener = Listener()
        engine.publish_kv_events(listener.take)
        assert len(listener.hashes()) == 1, "the first question has filled a block"
        prompt = list(range(20, 20 + 2 * BLOCK_TOKENS + 5))
        await answer(engine, make_request(prompt, max_tokens=1, ignore_eos=True))
        await until(lambda: listener.hashes()[1:] == local_hashes(prompt, BLOCK_TOKENS))
        stored = listener.events[-1]
        assert isinstance(stored, StoredBlocks)
        assert (stored.parent, listener.ranks) == (None, {0})

        longer = [*prompt[: 2 * BLOCK_TOKENS], *range(200, 200 + BLOCK_TOKENS)]
        await answer(engine, make_request(longer, max_tokens=1, ignore_eos=True))
        await until(lambda: len(listener.hashes()) == 4)
        last = listener.events[-1]
        assert isinstance(last, StoredBlocks)
        assert last.parent == stored.block_ids[1]

        await engine._control("POST", "/fake/remove", {})
        await until(lambda: isinstance(listener.events[-1], RemovedBlocks))
        gone = listener.events[-1]
        assert isinstance(gone, RemovedBlocks)
        assert {*stored.block_ids, *last.block_ids} <= {*gone.block_ids}


async def test_a_sleeper_has_forgotten_its_cache() -> None:
    async with trtllm() as engine:
        assert has_ability(engine, Sleeper)
        listener = Listener()
        engine.publish_kv_events(listener.take)
        await engine.sleep(1)
        assert listener.events[-1] == ClearedBlocks()
        await engine.wake()


async def test_the_options_of_our_file_leave_memory_as_it_was_asked_for() -> None:
    async with trtllm(kv_cache_free_gpu_memory_fraction="0.5") as engine:
        assert (await seen(engine))["cache"] == {
            "enable_block_reuse": True,
            "event_buffer_max_size": 16384,
            "tokens_per_block": BLOCK_TOKENS,
            "free_gpu_memory_fraction": 0.5,
        }
    with pytest.raises(UsageError, match="kv_cache_free_gpu_memory_fraction='half' of trtllm is no number"):
        stand_in(TrtLlmEngine, args={"kv_cache_free_gpu_memory_fraction": "half"})


@pytest.mark.parametrize("flag", ["fake_no_events", "kv_events", "extra_llm_api_options"])
async def test_servers_without_cache_events_are_not_polled(flag: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("{}")
    value = {"kv_events": "off", "extra_llm_api_options": str(tmp_path / "own.yaml")}.get(flag, "true")
    async with trtllm(**{flag: value}) as engine:
        assert (engine.card.io, engine.card.kv_events) == ("tokens", False)
        engine.publish_kv_events(Listener().take)
        assert (await seen(engine))["polls"] == 0


async def test_a_server_that_gives_text_only_is_asked_by_text() -> None:
    async with trtllm(fake_old="true") as engine:
        assert (engine.card.io, engine.card.kv_events, engine.card.files) == ("text", False, {})

"""The mocker's cache and what it tells of it: cached tokens, events, ranks, split requests, streams that move."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from trio.testing import MockClock

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import KvEventSource
from appliance.core.requests import KvTransfer, ModelCard, Sampling
from appliance.engines.mocker import MockerEngine
from appliance.routing.block_hash import local_hashes
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import new_index
from tests.helpers.engines import CollectingSink, answer, demo_facts, make_request, running

PROMPT = list(range(1000, 1100))


def make(**args: str) -> MockerEngine:
    return MockerEngine(demo_facts(), EngineOptions(served_name="m", args=args))


def cached(sink: CollectingSink) -> int:
    assert sink.usage is not None
    return sink.usage.cached_tokens


def prompt_of_blocks(chance: Random, blocks: int) -> list[int]:
    """A prompt that is likely to share its first blocks of eight tokens with others."""
    return [value for value in (chance.randrange(2) for _ in range(blocks)) for _ in range(8)]


class Watcher:
    """A prefix index that hears what the engine says."""

    def __init__(self) -> None:
        self.index = new_index()

    def take(self, rank: int, events: list[KvEvent]) -> None:
        holder = Holder(WorkerId("w"), rank)
        for event in events:
            if isinstance(event, StoredBlocks):
                self.index.store(holder, event.block_ids, event.local_hashes, event.parent)
            elif isinstance(event, RemovedBlocks):
                self.index.remove(holder, event.block_ids)

    def blocks(self, prompt: list[int], block_size: int) -> dict[int, int]:
        found = self.index.find_matches(local_hashes(prompt, block_size)).device
        return {holder.rank: count for holder, count in found.items()}


@asynccontextmanager
async def watched(engine: MockerEngine) -> AsyncIterator[tuple[Watcher, ModelCard]]:
    watcher = Watcher()
    async with trio.open_nursery() as nursery:
        card = await engine.start(lambda fraction, text: None)
        assert isinstance(engine, KvEventSource)
        engine.publish_kv_events(watcher.take)
        await nursery.start(engine.run)
        yield watcher, card
        await engine.close()
        nursery.cancel_scope.cancel()


async def test_usage_counts_what_was_reused() -> None:
    engine = make(step_ms="0")
    async with running(engine):
        first = await answer(engine, make_request(PROMPT, max_tokens=30, sampling=Sampling(seed=1)))
        again = await answer(engine, make_request(PROMPT, max_tokens=30))
        longer = await answer(engine, make_request(PROMPT + first.token_ids, max_tokens=1))
        adapter = await answer(engine, make_request(PROMPT, max_tokens=1, lora="a"))
    # Of 130 tokens the last one was never computed: eight blocks of 16 are full.
    assert [cached(sink) for sink in (first, again, longer, adapter)] == [0, 96, 128, 0]


async def test_events_say_exactly_what_will_be_reused() -> None:
    engine, chance = make(step_ms="0", num_gpu_blocks="40", block_size="8", max_num_seqs="3"), Random(1)
    async with watched(engine) as (watcher, card):
        assert (card.block_size, card.kv_events, card.total_kv_blocks) == (8, True, 40)
        hits = 0
        for _ in range(120):
            prompt = prompt_of_blocks(chance, chance.randrange(1, 12))
            known = watcher.blocks(prompt, 8).get(0, 0)
            sink = await answer(engine, make_request(prompt, max_tokens=chance.randrange(1, 60), ignore_eos=True))
            assert cached(sink) == 8 * known
            hits += known > 0
    assert hits > 50


async def test_streams_at_once_keep_the_events_true() -> None:
    engine, chance = make(step_ms="0", num_gpu_blocks="60", block_size="8"), Random(2)
    prompts = [prompt_of_blocks(chance, 6) for _ in range(40)]
    async with watched(engine) as (watcher, _):
        async with trio.open_nursery() as nursery:
            for prompt in prompts:
                nursery.start_soon(answer, engine, make_request(prompt, max_tokens=40, ignore_eos=True))
        for prompt in prompts:
            known = watcher.blocks(prompt, 8).get(0, 0)
            assert cached(await answer(engine, make_request(prompt, max_tokens=1))) == 8 * known


async def test_each_rank_has_its_own_cache() -> None:
    engine = make(step_ms="0", data_parallel_size="2")
    async with watched(engine) as (watcher, card):
        assert card.ranks == 2
        await answer(engine, make_request(PROMPT, rank=1))
        assert watcher.blocks(PROMPT, 16) == {1: 6}
        sinks = [await answer(engine, make_request(PROMPT, max_tokens=1, rank=rank)) for rank in (0, 1)]
        assert [cached(sink) for sink in sinks] == [0, 96]
        with pytest.raises(InvalidRequest, match="rank 2"):
            await answer(engine, make_request(PROMPT, rank=2))


async def test_streams_spread_over_the_ranks(autojump_clock: MockClock) -> None:
    engine = make(step_ms="10", data_parallel_size="2", max_num_seqs="1")
    async with running(engine), trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(answer, engine, make_request(PROMPT, max_tokens=11))
        start = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - start < 0.2


async def test_without_prefix_caching_there_is_nothing_to_say() -> None:
    engine = make(step_ms="0", enable_prefix_caching="false")
    async with watched(engine) as (watcher, card):
        assert not card.kv_events
        sinks = [await answer(engine, make_request(PROMPT)) for _ in range(2)]
        assert [cached(sink) for sink in sinks] == [0, 0]
        assert watcher.blocks(PROMPT, 16) == {}


@pytest.mark.parametrize("moved_after", [1, 5, 63, 64, 65, 150])
async def test_a_stream_that_moves_goes_on_as_if_it_had_not(moved_after: int) -> None:
    sampling = Sampling(seed=-7)
    engines = [make(step_ms="0", seed=seed) for seed in ("1", "2")]
    async with running(engines[0]), running(engines[1]):
        whole = await answer(engines[0], make_request(PROMPT, max_tokens=200, sampling=sampling))
        said = whole.token_ids[:moved_after]
        rest = await answer(engines[1], make_request(PROMPT + said, max_tokens=200 - moved_after, sampling=sampling))
    assert said + rest.token_ids == whole.token_ids


async def test_a_split_request_gives_what_a_whole_one_gives(autojump_clock: MockClock) -> None:
    timing = {"timing": "polynomial", "kv_bytes_per_token": "131072"}
    prefill, decode = make(disaggregation_mode="prefill", **timing), make(disaggregation_mode="decode", **timing)
    whole = make(timing="polynomial")
    prompt = list(range(1000))
    sampling = Sampling(seed=3)
    async with running(prefill) as card, running(decode) as other, running(whole):
        assert (card.role, other.role, card.kv_events, other.kv_events) == ("prefill", "decode", True, False)
        start = trio.current_time()
        half = await answer(
            prefill, make_request(prompt, max_tokens=9, sampling=sampling, kv_transfer=KvTransfer(phase="prefill"))
        )
        assert trio.current_time() - start == pytest.approx((32.105840 + 2.048) / 1000, abs=1e-5)
        assert (len(half.token_ids), half.finish, list(half.handover or {})) == (1, "length", ["mocker"])
        transfer = KvTransfer(phase="decode", params=half.handover or {})
        start = trio.current_time()
        rest = await answer(decode, make_request(prompt, max_tokens=9, sampling=sampling, kv_transfer=transfer))
        assert trio.current_time() - start < 9 * 0.006
        undivided = await answer(whole, make_request(prompt, max_tokens=9, sampling=sampling))
    assert rest.token_ids == undivided.token_ids
    assert half.token_ids == rest.token_ids[:1]


async def test_cancelling_during_the_hand_over_frees_the_blocks(autojump_clock: MockClock) -> None:
    engine = make(disaggregation_mode="prefill", kv_bytes_per_token="1000000000", max_num_seqs="1")
    request = make_request(PROMPT, kv_transfer=KvTransfer(phase="prefill"))
    async with running(engine):
        with trio.move_on_after(1) as scope:
            await answer(engine, request)
        assert scope.cancelled_caught
        assert len((await answer(engine, make_request(PROMPT, max_tokens=3))).token_ids) == 3


async def test_modelled_times_are_real_times(autojump_clock: MockClock) -> None:
    engine, sink = make(timing="polynomial", block_size="64"), CollectingSink()
    async with running(engine):
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.generate, make_request(list(range(1000)), max_tokens=2), sink)
            await sink.first.wait()
            assert trio.current_time() - start == pytest.approx(0.037898579, abs=1e-6)
        assert trio.current_time() - start == pytest.approx(0.037898579 + 0.005792720, abs=1e-6)


async def test_output_ends_where_the_cache_ends() -> None:
    engine = make(step_ms="0", num_gpu_blocks="10")
    async with running(engine):
        sink = await answer(engine, make_request(PROMPT, max_tokens=1000, ignore_eos=True))
        assert (len(sink.token_ids), sink.finish) == (61, "length")
        with pytest.raises(InvalidRequest, match="KV cache"):
            await answer(engine, make_request(list(range(200))))


async def test_answers_can_begin_with_thoughts() -> None:
    thoughts = '{"start_thinking_token_id": 7, "end_thinking_token_id": 8, "thinking_ratio": 0.25}'
    engine = make(step_ms="0", reasoning=thoughts)
    async with running(engine):
        sink = await answer(engine, make_request(max_tokens=40, ignore_eos=True))
    assert (sink.token_ids[0], sink.token_ids.index(8), len(sink.token_ids)) == (7, 11, 40)

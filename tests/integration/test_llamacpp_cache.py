"""The embedded engine's cache events against the cached tokens that it reports itself, on the demo model."""

from collections.abc import AsyncGenerator
from random import Random

import pytest
import trio

from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import KvEventSource
from appliance.engines.cards import BLOCK_TOKENS
from appliance.engines.llamacpp import LlamaCppEngine
from appliance.routing.block_hash import local_hashes
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.prefix_index import new_index
from tests.helpers.engines import GREEDY, CollectingSink, answer, demo_facts, make_request, running

SELF = Holder(WorkerId("w"))
TEXT = Random(1).choices(range(4, 2000), k=4000)


class IndexedEngine:
    """An engine with two slots, and an index that hears nothing but its events."""

    def __init__(self) -> None:
        self.engine = LlamaCppEngine(demo_facts(), EngineOptions(served_name="demo", args={"slots": "2"}))
        self.index = new_index()
        self.events = 0

    def take(self, rank: int, events: list[KvEvent]) -> None:
        assert rank == 0
        self.events += len(events)
        assert {self.index.apply(SELF, event) for event in events} == {Outcome.APPLIED}

    def held_blocks(self, prompt: list[int]) -> int:
        return self.index.find_matches(local_hashes(prompt, BLOCK_TOKENS)).device.get(SELF, 0)

    async def ask(self, prompt: list[int], max_tokens: int = 1) -> CollectingSink:
        """One request alone, compared with what the index foretold.

        llama.cpp computes the last prompt token anew in any case, so a block that ends with it is never a hit.
        """
        foretold = min(self.held_blocks(prompt), (len(prompt) - 1) // BLOCK_TOKENS)
        sink = await answer(self.engine, make_request(prompt, max_tokens=max_tokens, ignore_eos=True, sampling=GREEDY))
        assert sink.usage is not None
        assert sink.usage.cached_tokens // BLOCK_TOKENS == foretold
        return sink


@pytest.fixture
async def indexed() -> AsyncGenerator[IndexedEngine, None]:
    made = IndexedEngine()
    with trio.fail_after(60):
        async with running(made.engine):
            assert isinstance(made.engine, KvEventSource)
            made.engine.publish_kv_events(made.take)
            yield made


async def test_the_card_says_that_there_are_events() -> None:
    engine = LlamaCppEngine(demo_facts(), EngineOptions(served_name="demo", args={"slots": "1"}))
    try:
        assert (await engine.start(lambda *_: None)).kv_events
    finally:
        await engine.close()


async def test_shared_prefixes_and_the_last_token(indexed: IndexedEngine) -> None:
    shared = TEXT[: 20 * BLOCK_TOKENS]
    await indexed.ask([*shared, 50])
    assert indexed.held_blocks(shared) == 20
    await indexed.ask([*shared, 60, 61])
    await indexed.ask(shared)  # exactly what is there: one block less, because of the last token
    await indexed.ask(shared)


async def test_turns_of_a_conversation_find_the_answers_before(indexed: IndexedEngine) -> None:
    prompt = TEXT[:40]
    for turn in range(5):
        sink = await indexed.ask(prompt, max_tokens=21)
        prompt = [*prompt, *sink.token_ids, *TEXT[100 * turn : 100 * turn + 9]]
    assert indexed.held_blocks(prompt) >= 9


async def test_what_a_new_prompt_overwrites_is_gone(indexed: IndexedEngine) -> None:
    one, two, three = TEXT[:100], TEXT[1000:1100], TEXT[2000:2100]
    for prompt in (one, two, three, one, three):
        await indexed.ask(prompt)
    assert [indexed.held_blocks(prompt) for prompt in (one, two, three)] == [6, 0, 6]


async def test_a_prefix_on_two_slots_goes_with_the_last_copy(indexed: IndexedEngine) -> None:
    shared = TEXT[:64]
    async with trio.open_nursery() as nursery:
        for tail in (50, 60):
            request = make_request([*shared, tail], max_tokens=40, ignore_eos=True, sampling=GREEDY)
            nursery.start_soon(answer, indexed.engine, request)
    assert indexed.held_blocks(shared) == 4
    await indexed.ask(TEXT[1000:1100])
    assert indexed.held_blocks(shared) == 4
    await indexed.ask(TEXT[2000:2100])
    await indexed.ask(TEXT[3000:3100])
    assert indexed.held_blocks(shared) == 0


async def test_a_cancelled_prefill_is_no_more_than_was_computed(indexed: IndexedEngine) -> None:
    with trio.move_on_after(0.1):
        await answer(indexed.engine, make_request(TEXT, max_tokens=1))
    held = indexed.held_blocks(TEXT)
    sink = await answer(indexed.engine, make_request(TEXT, max_tokens=1))
    assert sink.usage is not None
    assert sink.usage.cached_tokens // BLOCK_TOKENS >= held


async def test_any_series_of_requests(indexed: IndexedEngine) -> None:
    random, known = Random(5), [TEXT[:200]]
    for _ in range(60):
        base = random.choice(known)
        prompt = base[: random.randint(1, len(base))] + random.choices(TEXT, k=random.randint(1, 40))
        sink = await indexed.ask(prompt, max_tokens=random.randint(1, 20))
        known = [*known[-4:], prompt + sink.token_ids]
    assert indexed.events > 60

"""The modelled engine under random load: limits hold in every pass, everyone ends, and events tell the cache."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks
from appliance.routing.block_hash import local_hashes, sequence_hashes
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import PrefixIndex, new_index
from appliance.simulation.block_pool import BlockPool
from appliance.simulation.engine_settings import EngineSettings, SglangSettings
from appliance.simulation.engines import make_scheduler
from appliance.simulation.event_log import EventLog
from appliance.simulation.eviction import EVICTIONS, CachedBlock, make_eviction
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sequence import RunningSequence
from appliance.simulation.timing import ModelledTiming, PolynomialTiming
from tests.helpers.simulation import simulated

BLOCK = 4
BLOCKS = 16
BUDGET = 24
PLACES = 3
HOLDER = Holder(WorkerId("w"), 0)

prompts = st.lists(st.integers(0, 2), min_size=1, max_size=12).flatmap(
    lambda blocks: st.integers(1, len(blocks) * BLOCK).map(
        lambda length: [number for number in blocks for _ in range(BLOCK)][:length]
    )
)
requests = st.tuples(prompts, st.integers(1, 12), st.booleans())
kinds = st.fixed_dictionaries(
    {
        "engine_type": st.sampled_from(["vllm", "sglang"]),
        "preemption_mode": st.sampled_from(["lifo", "fifo"]),
        "admission_preempts": st.booleans(),
        "enable_chunked_prefill": st.booleans(),
        "eviction": st.sampled_from(sorted(EVICTIONS)),
        "watermark": st.sampled_from([0.0, 0.2]),
    }
)


def make(kind: dict[str, Any], **more: Any) -> Scheduler:
    sglang = SglangSettings(max_prefill_tokens=BUDGET, chunked_prefill_size=BUDGET // 2, schedule_policy="lpm")
    limits: dict[str, Any] = {
        "num_gpu_blocks": BLOCKS, "block_size": BLOCK, "max_num_batched_tokens": BUDGET, "max_num_seqs": PLACES,
    }  # fmt: skip
    settings_of_one = EngineSettings(**limits, **kind, sglang=sglang, **more)
    return make_scheduler(settings_of_one, ModelledTiming(model=PolynomialTiming()))


class Watched:
    """A scheduler whose every pass is checked, with an index that is fed by its events."""

    def __init__(self, kind: dict[str, Any]) -> None:
        self.engine = make(kind)
        self.engine.blocks.log.wanted = True
        self.index = new_index()
        self.given: dict[RunningSequence, int] = {}
        self.held: list[RunningSequence] = []

    def step(self) -> None:
        done = self.engine.step(0)
        assert done.prefill_tokens <= BUDGET
        assert len(set(done.emitted)) == len(done.emitted) <= PLACES
        assert not set(done.emitted) & set(self.held)
        assert done.duration_ms > 0 or not done.emitted
        load = self.engine.load()
        assert load.running <= PLACES
        assert 0 <= load.active_blocks <= BLOCKS
        for sequence in done.emitted:
            self.given[sequence] += 1
            assert sequence.output_tokens == self.given[sequence]
        for sequence in done.finished:
            assert self.given[sequence] == sequence.request.max_output_tokens
        apply(self.index, done.events)

    def submit(self, number: int, prompt: list[int], output_tokens: int, present: bool) -> None:
        if not self.engine.settings.enable_chunked_prefill:
            prompt = prompt[:BUDGET]  # a longer one would be refused
        sequence = self.engine.submit(simulated(prompt, output_tokens, name=number, prompt_present=present))
        self.given[sequence] = 0

    def check_cache(self, prompt: list[int]) -> None:
        """What the index says of a prompt is what an admission would find."""
        apply(self.index, self.engine.blocks.drain_events())  # giving a request up completes its last block
        hashes = local_hashes(prompt, BLOCK)
        known = self.index.find_matches(hashes)
        assert known.device.get(HOLDER, 0) == self.engine.blocks.pool.match(sequence_hashes(hashes))


def apply(index: PrefixIndex, events: Sequence[KvEvent]) -> None:
    for event in events:
        if isinstance(event, StoredBlocks):
            index.store(HOLDER, event.block_ids, event.local_hashes, event.parent)
        elif isinstance(event, RemovedBlocks):
            index.remove(HOLDER, event.block_ids)


@settings(max_examples=60, deadline=None)
@given(kinds, st.lists(requests, min_size=1, max_size=10), st.data())
def test_limits_hold_and_everyone_ends(
    kind: dict[str, Any], load: list[tuple[list[int], int, bool]], data: st.DataObject
) -> None:
    watched = Watched(kind)
    engine = watched.engine
    for number, (prompt, output_tokens, present) in enumerate(load):
        watched.submit(number, prompt, output_tokens, present)
        for _ in range(data.draw(st.integers(0, 3))):
            watched.step()
        running = [each for each in watched.given if each.is_running and not each.is_prefilling]
        action = data.draw(st.sampled_from(["hold", "cancel", "resume", "look"]))
        if action == "hold" and running and running[0] not in watched.held:
            engine.hold(running[0])
            watched.held.append(running[0])
        elif action == "cancel" and running:
            watched.held = [each for each in watched.held if each is not running[-1]]
            engine.cancel(running[-1])
            del watched.given[running[-1]]
        elif action == "resume" and watched.held:
            engine.resume(watched.held.pop())
        elif action == "look":
            watched.check_cache(prompt)
    while watched.held:
        engine.resume(watched.held.pop())
    passes = 0
    while not engine.is_idle:
        watched.step()
        passes += 1
        assert passes < 2000, "the engine goes on without end"
    assert all(count == each.request.max_output_tokens for each, count in watched.given.items())
    assert engine.load().active_blocks == 0
    for prompt, _, _ in load:
        watched.check_cache(prompt)


class NaivePool:
    """Users of every chain that is held; the kept ones are those that were not given up."""

    def __init__(self) -> None:
        self.users: dict[tuple[int, ...], int] = {}
        self.private = 0

    @property
    def used(self) -> int:
        return self.private + sum(count > 0 for count in self.users.values())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(EVICTIONS)), st.lists(prompts, max_size=20), st.data())
def test_blocks_are_counted_as_by_a_naive_model(backend: str, chains: list[list[int]], data: st.DataObject) -> None:
    log, naive = EventLog(), NaivePool()
    log.wanted = True
    pool = BlockPool(BLOCKS, make_eviction(backend), log)
    names: dict[int, tuple[int, ...]] = {}
    holders: list[tuple[list[CachedBlock], list[tuple[int, ...]]]] = []
    for chain in chains:
        if data.draw(st.booleans()) and holders:
            blocks, prefixes = holders.pop(data.draw(st.integers(0, len(holders) - 1)))
            pool.release(blocks)
            for prefix in prefixes:
                naive.users[prefix] -= 1
        taken: list[CachedBlock] = []
        prefixes = []
        locals_of_chain = local_hashes(chain * BLOCK, BLOCK)
        for block_id, local in zip(sequence_hashes(locals_of_chain), locals_of_chain, strict=True):
            prefix = (*(prefixes[-1] if prefixes else ()), local)
            if prefix in naive.users:
                taken.append(pool.share(block_id))
            else:
                has_room = naive.used < BLOCKS
                assert pool.take() == has_room
                if not has_room:
                    break
                naive.private += 1
                forget(log, naive, names)
                taken.append(pool.fill(block_id, local, taken[-1] if taken else None))
                naive.private -= 1
                names[block_id] = prefix
            naive.users[prefix] = naive.users.get(prefix, 0) + 1
            prefixes.append(prefix)
        holders.append((taken, prefixes))
        forget(log, naive, names)
        assert pool.active == naive.used
        assert pool.capacity - pool.free == len(naive.users)
        assert pool.match(sequence_hashes(locals_of_chain)) == len(prefixes) or len(taken) < len(locals_of_chain)


def forget(log: EventLog, naive: NaivePool, names: dict[int, tuple[int, ...]]) -> None:
    """Only what nobody uses may be given up, and never before what follows it."""
    for event in log.drain():
        if isinstance(event, RemovedBlocks):
            for block_id in event.block_ids:
                prefix = names.pop(block_id)
                assert naive.users.pop(prefix) == 0
                assert not any(other[: len(prefix)] == prefix for other in naive.users)

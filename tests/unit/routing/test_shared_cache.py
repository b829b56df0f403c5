"""A storage behind all workers of a pool, told from what they report of it."""

from random import Random
from typing import Any

from appliance.core.generation import RouterOverrides, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.kv_events import RemovedBlocks, StoredBlocks, Tier
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_wire import Batch, BlockStored
from appliance.routing.block_hash import local_hashes
from appliance.routing.router import Placement, Router, RoutingRequest
from appliance.routing.weights import Role, resolve, weights_of

MODEL = ModelName("m")
PROMPT = list(range(160))
HICACHE: dict[str, Any] = {"shared_cache_type": "hicache", "prefill_load_scale": 1.0}


def router(*workers: str, **settings: Any) -> Router:
    made = Router(RouterSettings(mode="kv", **settings), source=Random(1))
    for worker in workers:
        made.add(WorkerId(worker), ModelCard(name=MODEL, context_length=999, engine="sglang", kv_events=True))
    return made


def report(router: Router, worker: str, blocks: range, tier: Tier) -> None:
    """A worker has these blocks of the prompt; block ids are their numbers, from 1 on."""
    hashes = local_hashes(PROMPT, 16)
    parent = blocks.start or None
    stored = StoredBlocks([at + 1 for at in blocks], [hashes[at] for at in blocks], parent, tier)
    router.apply_kv_events(WorkerId(worker), 0, [stored])


async def place(router: Router, tokens: list[int] = PROMPT, role: Role = "aggregated", **hints: Any) -> Placement:
    return await router.place(
        RoutingRequest(id=RequestId("r"), model=MODEL, token_ids=tokens, role=role, hints=RoutingHints(**hints))
    )


async def test_what_one_worker_stored_is_had_by_all() -> None:
    """`a` has stored the prompt and has another block to compute; `b` is idle."""
    other = list(range(1000, 1016))
    for settings, chosen in (({"prefill_load_scale": 1.0}, "a"), (HICACHE, "b")):
        r = router("a", **settings)
        report(r, "a", range(10), Tier.DISK)
        await place(r, other)
        r.add(WorkerId("b"), ModelCard(name=MODEL, context_length=999, engine="sglang", kv_events=True))
        placement = await place(r)
        assert placement.worker == chosen
        cached = {"a": 40, "b": 80}  # a quarter of what is one's own, half of what is shared
        assert placement.cached_tokens == cached[chosen]


async def test_a_device_prefix_is_worth_more_than_a_shared_one() -> None:
    r = router("a", "b", **HICACHE)
    report(r, "a", range(10), Tier.DISK)
    report(r, "b", range(3), Tier.DEVICE)
    placement = await place(r)
    assert (placement.worker, placement.overlap_blocks, placement.cached_tokens) == ("b", 3, (3 * 2 + 7) * 8)


async def test_several_workers_store_one_prefix_between_them() -> None:
    r = router("a", "b", "c", **HICACHE)
    report(r, "a", range(4), Tier.DISK)
    report(r, "b", range(4), Tier.DEVICE)
    report(r, "b", range(4, 6), Tier.DISK)
    only_c = (instance_number(WorkerId("c")),)
    assert (await place(r, allowed_workers=only_c)).cached_tokens == 6 * 8
    r.apply_kv_events(WorkerId("a"), 0, [RemovedBlocks([2], Tier.DISK)])
    assert (await place(r, allowed_workers=only_c)).cached_tokens == 1 * 8
    r.withdraw(WorkerId("a"))
    assert (await place(r, allowed_workers=only_c)).cached_tokens == 0, "nobody else stored its beginning"


async def test_external_storage_of_an_engine_is_the_shared_cache() -> None:
    stored = BlockStored([7, 8], None, PROMPT[:32], 16, medium="EXTERNAL")
    events, issues = EventConverter(16).convert(Batch(0.0, [stored]))
    assert not issues
    r = router("a", "b", **HICACHE)
    r.apply_kv_events(WorkerId("a"), 0, events)
    assert (await place(r, allowed_workers=(instance_number(WorkerId("b")),))).cached_tokens == 16


async def test_a_request_may_weigh_the_shared_cache_itself() -> None:
    r = router("a", **HICACHE)
    report(r, "a", range(10), Tier.DISK)
    wish = RouterOverrides(shared_cache_multiplier=1.0)
    assert (await place(r, overrides=wish)).cached_tokens == 160
    r.configure(RouterSettings(mode="kv", prefill_load_scale=1.0))
    assert (await place(r)).cached_tokens == 40, "its own disk"


def test_decode_halves_and_the_load_aware_preset_do_not_look_at_it() -> None:
    settings = RouterSettings(mode="kv", shared_cache_type="hicache")
    assert [weights_of(settings, role).shared_credit for role in ("aggregated", "prefill", "decode")] == [0.5, 0.5, 0]
    assert resolve(RouterSettings(load_aware=True, shared_cache_type="hicache")).shared_cache_type == "none"

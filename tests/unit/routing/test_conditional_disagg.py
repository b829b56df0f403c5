"""Which requests pass the prefill workers by."""

from dataclasses import replace

import pytest

from appliance.core.generation import Pins
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.kv_events import StoredBlocks
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.block_hash import local_hashes, sequence_hashes
from appliance.routing.conditional_disagg import SplitFacts, runs_split
from appliance.routing.router import Router, RoutingRequest

MODEL = ModelName("m")
ON = RouterSettings(mode="kv", conditional_disagg=True)
QUIET = SplitFacts(isl=1000, uncached=100, prefill_busy=False, decode_busy=False)


@pytest.mark.parametrize(
    ("isl", "uncached", "split"),
    [
        (1000, 100, False),
        (2000, 1399, False),
        (2000, 1400, True),
        (9000, 2047, False),
        (9000, 2048, True),
        (9, 9, True),
    ],
)
def test_short_and_mostly_cached_prompts_pass_by(isl: int, uncached: int, split: bool) -> None:
    assert runs_split(ON, replace(QUIET, isl=isl, uncached=uncached)) is split


@pytest.mark.parametrize(
    ("policy", "short", "busy", "split"),
    [
        ("isl_bounding", False, True, True),
        ("isl_bounding", True, False, False),
        ("prefill_load", True, False, True),
        ("prefill_load", False, True, False),
        ("isl_or_load", True, False, False),
        ("isl_or_load", False, True, False),
        ("isl_or_load", False, False, True),
    ],
)
def test_policies(policy: str, short: bool, busy: bool, split: bool) -> None:
    facts = replace(QUIET, uncached=100 if short else 1000, prefill_busy=busy)
    settings = replace(ON, conditional_disagg_policy=policy)
    assert runs_split(settings, facts) is split
    assert runs_split(settings, replace(facts, decode_busy=True)), "a busy decode pool gets no prompts"
    assert runs_split(replace(settings, conditional_disagg=False), facts)


def make_router(settings: RouterSettings) -> Router:
    router = Router(settings)
    for name, role in (("p", "prefill"), ("d", "decode")):
        card = ModelCard(
            name=MODEL,
            context_length=10_000,
            engine="fake",
            role=role,  # type: ignore[arg-type]  # one of the words that the card takes
            max_num_batched_tokens=100,
            total_kv_blocks=100,
            kv_events=True,
        )
        router.add(WorkerId(name), card)
    return router


def wish(tokens: int = 320, **members: object) -> RoutingRequest:
    return RoutingRequest(id=RequestId("r"), model=MODEL, token_ids=list(range(tokens)), **members)  # type: ignore[arg-type]  # members of it


def test_what_decode_workers_have_cached_counts() -> None:
    router = make_router(ON)
    assert router.wants_prefill(wish())
    hashes = local_hashes(list(range(160)), 16)
    router.apply_kv_events(WorkerId("d"), 0, [StoredBlocks(list(sequence_hashes(hashes)), list(hashes), None)])
    assert not router.wants_prefill(wish()), "half of it is there, and the rest is short"
    assert router.wants_prefill(wish(pins=Pins(prefill=instance_number(WorkerId("p")))))
    assert not router.load()[WorkerId("d")], "asking books nothing"


def test_busy_workers_count() -> None:
    router = make_router(
        replace(ON, conditional_disagg_policy="prefill_load", conditional_disagg_decode_busy_threshold=0.5)
    )
    assert router.wants_prefill(wish())
    router.report_load(WorkerId("p"), 0, decode_blocks=0, prefill_tokens=401)
    assert not router.wants_prefill(wish()), "over the queue threshold of 4 step budgets"
    router.report_load(WorkerId("d"), 0, decode_blocks=51, prefill_tokens=0)
    assert router.wants_prefill(wish())
    eager = make_router(
        replace(ON, conditional_disagg_policy="prefill_load", conditional_disagg_prefill_busy_threshold=1.0)
    )
    eager.report_load(WorkerId("p"), 0, decode_blocks=0, prefill_tokens=101)
    assert not eager.wants_prefill(wish())


def test_without_prefill_workers_nothing_is_split() -> None:
    router = make_router(replace(ON, conditional_disagg=False))
    assert router.wants_prefill(wish())
    router.withdraw(WorkerId("p"))
    assert not router.wants_prefill(wish())

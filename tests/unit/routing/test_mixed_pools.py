"""Pools with workers of several roles: who gets whole requests, and who gets halves."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio.testing

from appliance.core.errors import ModelNotReady
from appliance.core.generation import Pins
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.router import Router, RoutingRequest
from appliance.routing.weights import Role

MODEL = ModelName("m")
ROLES: dict[str, Role] = {"p": "prefill", "d": "decode", "a": "aggregated"}
MODES = ("round-robin", "kv")


def card(role: Role, **members: Any) -> ModelCard:
    return ModelCard(
        name=MODEL, context_length=100, engine="fake", max_num_seqs=4, role=role, kv_events=True, **members
    )


def router(*workers: str, mode: str = "round-robin", needs_prefill: bool = False, **settings: Any) -> Router:
    """Workers are called after their role: `d1` is a decode worker."""
    made = Router(RouterSettings(mode=mode, **settings), source=Random(1))
    for worker in workers:
        role = ROLES[worker[0]]
        made.add(WorkerId(worker), card(role, needs_prefill=needs_prefill and role == "decode"))
    return made


def wish(role: Role = "aggregated", **members: Any) -> RoutingRequest:
    return RoutingRequest(id=RequestId("r"), model=MODEL, token_ids=list(range(64)), role=role, **members)


async def placed(router: Router, role: Role = "aggregated", avoid: Sequence[str] = ()) -> set[str]:
    """Who gets twelve such requests."""
    found = set()
    for _ in range(12):
        with await router.place(wish(role, avoid={WorkerId(name) for name in avoid})) as placement:
            found.add(str(placement.worker))
    return found


@pytest.mark.parametrize("mode", MODES)
async def test_whole_requests_go_to_any_worker_unless_splits_are_enforced(mode: str) -> None:
    assert await placed(router("d1", "a1", mode=mode)) == {"d1", "a1"}
    assert await placed(router("p1", "d1", "a1", mode=mode)) == {"d1", "a1"}
    enforced = router("d1", "d2", "a1", "a2", mode=mode, enforce_disagg=True)
    assert enforced.ready_workers(MODEL) == 2
    assert await placed(enforced) == {"a1", "a2"}


@pytest.mark.parametrize("mode", MODES)
async def test_enforced_splits_leave_decode_workers_alone_once_every_prefill_worker_failed(mode: str) -> None:
    mixed = router("p1", "p2", "d1", "a1", mode=mode, enforce_disagg=True)
    assert mixed.ready_workers(MODEL) == 2
    assert await placed(mixed, avoid=["p1"]) == {"d1", "a1"}, "it was another reason that the request is not split"
    assert await placed(mixed, avoid=["p1", "p2"]) == {"a1"}
    assert await placed(mixed, "prefill") == {"p1", "p2"}
    assert not mixed.may_run_whole(wish(avoid={WorkerId("p1")}))
    assert mixed.may_run_whole(wish(avoid={WorkerId("p1"), WorkerId("p2")}))
    bare = router("p1", "d1", mode=mode, enforce_disagg=True)
    assert not bare.may_run_whole(wish(avoid={WorkerId("p1")}))
    with pytest.raises(ModelNotReady, match="no ready prefill worker"):
        await placed(bare, avoid=["p1"])


@pytest.mark.parametrize("mode", MODES)
async def test_second_halves_go_to_decode_workers_where_there_are_any(mode: str) -> None:
    mixed = router("p1", "d1", "d2", "a1", "a2", mode=mode)
    assert await placed(mixed, "decode") == {"d1", "d2"}
    assert await placed(mixed, "decode", avoid=["d1"]) == {"d2"}
    mixed.withdraw(WorkerId("d1"))
    mixed.withdraw(WorkerId("d2"))
    assert await placed(mixed, "decode") == {"a1", "a2"}


async def test_waiting_in_vain_names_what_is_missing(autojump_clock: trio.testing.MockClock) -> None:
    for lonely in (router("d1", enforce_disagg=True), router("d1", needs_prefill=True)):
        with pytest.raises(ModelNotReady, match="model 'm' has no ready prefill worker after 5 s of waiting"):
            await lonely.wait_ready(MODEL, 5)
    for empty in (router(enforce_disagg=True), router("p1"), router("p1", enforce_disagg=True)):
        with pytest.raises(ModelNotReady, match="model 'm' has no ready worker after 5 s of waiting"):
            await empty.wait_ready(MODEL, 5)


async def test_a_pin_on_a_decode_worker_is_no_way_around() -> None:
    mixed = router("d1", "a1", enforce_disagg=True)
    with pytest.raises(ModelNotReady, match="no ready prefill worker"):
        await mixed.place(wish(pins=Pins(worker=instance_number(WorkerId("d1")))))
    with await mixed.place(wish(pins=Pins(worker=instance_number(WorkerId("a1"))))) as placement:
        assert placement.worker == "a1"


async def test_the_rule_comes_and_goes_with_the_setting() -> None:
    mixed = router("d1", "a1", enforce_disagg=True)
    assert await placed(mixed) == {"a1"}
    mixed.configure(RouterSettings(mode="round-robin"))
    assert await placed(mixed) == {"d1", "a1"}


@pytest.mark.parametrize("mode", MODES)
async def test_workers_that_compute_no_prompts_get_halves_only(mode: str) -> None:
    alone = router("d1", mode=mode, needs_prefill=True)
    assert (alone.ready_workers(MODEL), alone.needs_prefill(MODEL)) == (0, True)
    with pytest.raises(ModelNotReady, match="no ready prefill worker"):
        await alone.place(wish())
    alone.add(WorkerId("p1"), card("prefill"))
    assert (alone.ready_workers(MODEL), alone.wants_prefill(wish())) == (1, True)
    assert await placed(alone, "decode") == {"d1"}
    assert not alone.may_run_whole(wish(avoid={WorkerId("p1")}))
    mixed = router("d1", "a1", mode=mode, needs_prefill=True)
    assert (mixed.ready_workers(MODEL), mixed.needs_prefill(MODEL)) == (1, False)
    assert await placed(mixed) == {"a1"}
    assert mixed.may_run_whole(wish())


async def test_short_prompts_do_not_pass_by_to_workers_that_compute_none() -> None:
    settings: dict[str, Any] = {
        "mode": "kv",
        "conditional_disagg": True,
        "conditional_disagg_eff_isl_ratio_threshold": 2.0,
    }
    assert not router("p1", "d1", **settings).wants_prefill(wish())
    assert router("p1", "d1", needs_prefill=True, **settings).wants_prefill(wish())
    mixed = router("p1", "d1", "a1", needs_prefill=True, **settings)
    assert not mixed.wants_prefill(wish())
    assert await placed(mixed) == {"a1"}


async def test_short_prompts_pass_by_to_decode_workers_also_under_enforced_splits() -> None:
    short = router(
        "p1",
        "d1",
        mode="kv",
        conditional_disagg=True,
        conditional_disagg_eff_isl_ratio_threshold=2.0,
        enforce_disagg=True,
    )
    assert not short.wants_prefill(wish())
    assert await placed(short) == {"d1"}

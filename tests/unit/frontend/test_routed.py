"""What an answer can say of its routing, mode by mode."""

from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.frontend.routed import Routed
from appliance.routing.router import Router, RoutingRequest

MODEL = ModelName("m")


def router(mode: str) -> Router:
    made = Router(RouterSettings(mode=mode))
    for name, role in (("a", "decode"), ("p", "prefill")):
        card = ModelCard(name=MODEL, context_length=999, engine="mocker", total_kv_blocks=99, role=role)  # type: ignore[arg-type]  # parametrised
        made.add(WorkerId(name), card)
    return made


async def routed_by(mode: str) -> Routed:
    routed, one = Routed(), router(mode)
    for role, prefill in (("prefill", True), ("decode", False)):
        wish = RoutingRequest(id=RequestId("r"), model=MODEL, token_ids=range(64), role=role)  # type: ignore[arg-type]  # parametrised
        routed.ask(one, role)
        with await one.place(wish) as placement:
            routed.take(placement, prefill=prefill)
    return routed


async def test_mode_kv_knows_everything() -> None:
    routed = await routed_by("kv")
    assert routed.worker_ids() == {
        "prefill_worker_id": instance_number(WorkerId("p")),
        "prefill_dp_rank": 0,
        "decode_worker_id": instance_number(WorkerId("a")),
        "decode_dp_rank": 0,
    }
    assert routed.placed_at is not None
    routed.prefilled_at = routed.placed_at + 0.25
    timing = routed.timing(routed.placed_at - 0.5, routed.placed_at + 2)
    assert timing == {
        "prefill_wait_time_ms": 500.0,
        "prefill_time_ms": 250.0,
        "kv_hit_rate": 0.0,
        "router_queue_depth": 0,
    }


async def test_other_modes_know_only_the_workers() -> None:
    routed = await routed_by("random")
    assert routed.timing(0.0, 1.0) == {}
    assert routed.worker_ids()["decode_worker_id"] == instance_number(WorkerId("a"))


def test_nothing_is_known_before_a_placement() -> None:
    assert (Routed().worker_ids(), Routed().timing(0.0, None), Routed().kv_hit_rate) == ({}, {}, None)

"""Routers with workers and requests that mean little by themselves."""

from collections.abc import Collection
from random import Random
from typing import Any

from appliance.core.generation import NO_HINTS, NO_PINS, Pins, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.router import Router, RoutingRequest

MODEL = ModelName("m")
CAPACITY: dict[str, Any] = {"max_num_batched_tokens": 10, "total_kv_blocks": 1000}
"""What a worker says by which its load can be judged."""


def worker_card(slots: int = 4, **members: Any) -> ModelCard:
    """What a worker says of itself."""
    return ModelCard(name=MODEL, context_length=100, engine="mocker", max_num_seqs=slots, **members)


def make_router(mode: str, *workers: str, **settings: Any) -> Router:
    """A router of a mode with these workers, which are alike."""
    made = Router(RouterSettings(mode=mode, **settings), source=Random(1))
    for worker in workers:
        made.add(WorkerId(worker), worker_card())
    return made


def routing_request(
    pin: int | None = None, avoid: Collection[WorkerId] = (), tokens: int = 0, hints: RoutingHints = NO_HINTS
) -> RoutingRequest:
    """A request for a place; `pin`: the number of the only worker that will do."""
    return RoutingRequest(
        id=RequestId("r"),
        model=MODEL,
        token_ids=list(range(tokens)),
        pins=NO_PINS if pin is None else Pins(worker=pin),
        avoid=avoid,
        hints=hints,
    )


def make_kv_router(*workers: str, **settings: Any) -> Router:
    """A router that goes by caches and load, with workers that tell both."""
    made = Router(RouterSettings(mode="kv", **settings), source=Random(1))
    for worker in workers:
        made.add(WorkerId(worker), worker_card(**CAPACITY))
    return made

"""A pool in virtual time, requests for it, and what it answers."""

from random import Random
from typing import Any

from appliance.core.generation import NO_HINTS, NO_PINS, Pins, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.block_hash import local_hashes
from appliance.routing.scheduler import PoolScheduler
from appliance.routing.shared import Shared
from appliance.routing.weights import Role, resolve

MODEL = ModelName("m")


def blocks(tokens: range) -> list[int]:
    """Local hashes; here they are the blocks' ids too."""
    return list(local_hashes(tokens, 16))


def scheduler(mode: str = "kv", workers: dict[str, dict[str, Any]] | None = None, **settings: Any) -> PoolScheduler:
    """A pool of these workers, by name, each with the members of its card."""
    settings = {"prefill_load_scale": 1.0, **settings}  # blocks to compute and blocks in use weigh the same: easy sums
    shared = Shared(settings=resolve(RouterSettings(mode=mode, **settings)), source=Random(1))
    made = PoolScheduler(MODEL, prefill=False, shared=shared)
    for name, members in (workers or {}).items():
        made.add_worker(WorkerId(name), ModelCard(name=MODEL, context_length=100, engine="mocker", **members), 0.0)
    return made


def request(
    tokens: range = range(0),
    *,
    name: str = "r",
    pins: Pins = NO_PINS,
    role: Role = "aggregated",
    avoid: tuple[str, ...] = (),
    **hints: Any,
) -> RoutingRequest:
    """A request for a place; its tokens say which other prompts it begins like."""
    return RoutingRequest(
        id=RequestId(name),
        model=MODEL,
        token_ids=tokens,
        pins=pins,
        role=role,
        avoid=[WorkerId(worker) for worker in avoid],
        hints=RoutingHints(**hints) if hints else NO_HINTS,
    )


def granted(pool: PoolScheduler, asked: RoutingRequest, now: float = 0.0) -> Grant:
    """The place that a request gets at once."""
    found = pool.on_request(asked, now)
    assert isinstance(found, Grant)
    return found


def waits(pool: PoolScheduler, asked: RoutingRequest, now: float = 0.0) -> Ask:
    """The request as it waits in the queue."""
    found = pool.on_request(asked, now)
    assert isinstance(found, Ask)
    return found


def place(pool: PoolScheduler, asked: RoutingRequest) -> tuple[str, int]:
    """Worker and rank of the place that a request gets at once."""
    found = granted(pool, asked)
    return found.slot.worker, found.slot.rank


def pin(name: str, rank: int | None = None) -> Pins:
    """The wish for one worker."""
    return Pins(worker=instance_number(WorkerId(name)), dp_rank=rank)

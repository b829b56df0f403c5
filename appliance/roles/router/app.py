"""The selection service's HTTP interface: a plain Quart app over a selector."""

from collections.abc import Callable
from typing import Any

import msgspec
from quart import Response
from quart_trio import QuartTrio

from appliance.core.errors import Conflict, NotFound, NotImplementedHere
from appliance.events.router_events import write_router_events
from appliance.events.zmq_broadcast import Broadcast
from appliance.frontend.control.serving import answer_json, make_app
from appliance.roles.indexer.app import read
from appliance.roles.indexer.bodies import Peer, answer_query
from appliance.roles.indexer.http_rules import add_rules
from appliance.roles.indexer.measures import Measures
from appliance.roles.router.bodies import OutputBlock, Reservation, Selection, Worker, WorkerChange
from appliance.roles.router.replica_sync import ReplicaSync
from appliance.roles.router.selection import Choice, Selector
from appliance.roles.router.subscriptions import Subscriptions, sources_of
from appliance.routing.cost import cached_tokens
from appliance.telemetry.metrics import CONTENT_TYPE

Clock = Callable[[], float]
OK = {"status": "ok"}


def build_router_app(
    selector: Selector,
    subscriptions: Subscriptions,
    replicas: ReplicaSync,
    measures: Measures,
    clock: Clock,
    *,
    loopback: bool,
) -> QuartTrio:
    """The app. With `loopback`, web pages of other origins are refused."""
    app = make_app("appliance.router")
    add_rules(app, measures, loopback=loopback)
    _add_workers(app, selector, subscriptions, replicas)
    _add_selection(app, selector, clock)
    _add_reservations(app, selector, replicas, clock)
    _add_peers(app, replicas)
    _add_views(app, selector, clock)
    _add_probes(app, selector, measures)
    return app


def _add_workers(app: QuartTrio, selector: Selector, subscriptions: Subscriptions, replicas: ReplicaSync) -> None:
    def describe(worker: Worker) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(worker)
        return plain | {"listeners": subscriptions.statuses(worker.worker_id)}

    @app.get("/workers")
    async def workers() -> Response:
        return answer_json([describe(worker) for worker in selector.workers()])

    @app.post("/workers")
    async def add() -> Response:
        worker = await read(Worker)
        list(sources_of(worker))  # what is wrong with them must be known before anything is changed
        if any(one.worker_id == worker.worker_id for one in selector.workers()):
            raise Conflict(f"worker {worker.worker_id} already registered")
        subscriptions.follow(worker, selector.add_worker(worker))
        return answer_json(describe(worker), 201)

    @app.patch("/workers/<int:worker_id>")
    async def change(worker_id: int) -> Response:
        wish = await read(WorkerChange)
        before = selector.find_worker(worker_id)
        changes = {name: getattr(wish, name) for name in wish.__struct_fields__}
        worker = msgspec.structs.replace(
            before, **{name: value for name, value in changes.items() if value is not msgspec.UNSET}
        )
        list(sources_of(worker))
        group = selector.add_worker(worker)
        if worker.kv_events_endpoints != before.kv_events_endpoints or worker.replay_endpoint != before.replay_endpoint:
            subscriptions.follow(worker, group)
        return answer_json(describe(worker))

    @app.delete("/workers/<int:worker_id>")
    async def remove(worker_id: int) -> Response:
        for name in selector.remove_worker(worker_id):
            replicas.freed(name)
        subscriptions.unfollow(worker_id)
        return answer_json(OK)


def _add_selection(app: QuartTrio, selector: Selector, clock: Clock) -> None:
    @app.post("/select")
    async def select() -> Response:
        return answer_json(_describe(selector.select(await read(Selection), clock())))

    @app.post("/best_worker_id")
    async def best_worker_id() -> Response:
        choice = selector.select(await read(Selection), clock())
        overlap = choice.ask.prompt.overlaps.device.get(choice.slot.holder, 0)
        row = {"worker_id": choice.worker.worker_id, "dp_rank": choice.slot.rank, "overlap_blocks": overlap}
        return answer_json(row)


def _add_reservations(app: QuartTrio, selector: Selector, replicas: ReplicaSync, clock: Clock) -> None:
    @app.post("/select_and_reserve")
    async def select_and_reserve() -> Response:
        wish = await read(Selection)
        choice = selector.select_and_reserve(wish, clock())
        replicas.added(wish.selection_id, choice)
        return answer_json(_describe(choice), 201)

    @app.post("/reservations")
    async def reserve() -> Response:
        wish = await read(Reservation)
        choice = selector.reserve(wish, clock())
        replicas.added(wish.selection_id, choice)
        return answer_json(_describe(choice), 201)

    @app.post("/reservations/<name>/prefill_complete")
    async def prefill_complete(name: str) -> Response:
        selector.complete_prefill(name, clock())
        replicas.prefill_completed(name)
        return answer_json(OK)

    @app.post("/reservations/<name>/output_block")
    async def output_block(name: str) -> Response:
        body = await read(OutputBlock)
        selector.add_output_block(name, body.decay_fraction)
        return answer_json(OK)

    @app.delete("/reservations/<name>")
    async def free(name: str) -> Response:
        selector.free(name, clock())
        replicas.freed(name)
        return answer_json(OK)


def _add_peers(app: QuartTrio, replicas: ReplicaSync) -> None:
    def broadcast() -> Broadcast:
        if replicas.broadcast is None:
            raise NotImplementedHere("replica sync is off: start with --replica-sync-port")
        return replicas.broadcast

    @app.post("/replica_sync/register_peer")
    async def register_peer() -> Response:
        broadcast().listen_to((await read(Peer)).url)
        return answer_json(OK, 201)

    @app.post("/replica_sync/deregister_peer")
    async def deregister_peer() -> Response:
        if not broadcast().ignore((await read(Peer)).url):
            raise NotFound("peer not found")
        return answer_json(OK)

    @app.get("/replica_sync/peers")
    async def list_peers() -> Response:
        return answer_json([] if replicas.broadcast is None else replicas.broadcast.peers())


def _add_views(app: QuartTrio, selector: Selector, clock: Clock) -> None:
    @app.get("/loads")
    async def loads() -> Response:
        now = clock()
        return answer_json(
            [
                {
                    "model_name": key.model,
                    "routing_group": key.tenant,
                    "worker_id": int(slot.worker),
                    "dp_rank": slot.rank,
                    "active_prefill_tokens": slot.load.prefill_at(now),
                    "active_decode_blocks": slot.load.blocks_now(),
                    "active_requests": slot.streams,
                }
                for key, group in selector.groups.items()
                for slot in group.pool.slots
            ]
        )

    @app.post("/potential_loads")
    async def potential_loads() -> Response:
        group, slots, scores, ask = selector.potential_loads(await read(Selection), clock())
        rows = []
        for slot, tokens, blocks in zip(slots, scores.prefill_tokens, scores.decode_blocks, strict=True):
            new = ask.prompt.isl - cached_tokens(slot.holder, ask.prompt, ask.weights, group.block_size)
            row = {"worker_id": int(slot.worker), "dp_rank": slot.rank}
            rows.append(row | {"potential_prefill_tokens": tokens + new, "potential_decode_blocks": blocks})
        return answer_json(rows)

    @app.post("/overlap_scores")
    async def overlap_scores() -> Response:
        group, _, _, ask = selector.potential_loads(await read(Selection), clock())
        return answer_json(answer_query(ask.prompt.overlaps, group.block_size))

    @app.get("/dump")
    async def dump_all() -> Response:
        return answer_json(
            {
                str(key): {
                    "block_size": group.block_size,
                    "events": list(write_router_events(group.prefixes.index.dump())),
                }
                for key, group in selector.groups.items()
            }
        )


def _add_probes(app: QuartTrio, selector: Selector, measures: Measures) -> None:
    @app.get("/health")
    async def health() -> Response:
        return Response(b"")

    @app.get("/ready")
    async def ready() -> Response:
        able = any(group.pool.slots for group in selector.groups.values())
        return answer_json({"ready": able}, 200 if able else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(measures.render(), content_type=CONTENT_TYPE)


def _describe(choice: Choice) -> dict[str, Any]:
    worker, overlaps, holder = choice.worker, choice.ask.prompt.overlaps, choice.slot.holder
    scored = answer_query(overlaps, worker.block_size).instances.get(holder.worker)
    return {
        "selection_id": choice.ask.request.id,
        "worker_id": worker.worker_id,
        "dp_rank": choice.slot.rank,
        "endpoint": worker.endpoint,
        "block_size": worker.block_size,
        "overlap": scored or {"longest_matched": 0, "gpu": 0, "dp": {}, "cpu": 0, "disk": 0},
        "effective_prefill_tokens": choice.ask.prompt.isl - choice.cached_tokens,
    }

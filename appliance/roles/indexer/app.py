"""The indexer's HTTP interface: a plain Quart app over a registry."""

from typing import Any, TypeVar

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from appliance.core.errors import InvalidRequest, Unprocessable
from appliance.events.router_events import write_router_events
from appliance.frontend.control.serving import answer_json, make_app
from appliance.roles.indexer.bodies import (
    ListenerId,
    Peer,
    Query,
    QueryByHash,
    Register,
    Unregister,
    answer_query,
    read_body,
)
from appliance.roles.indexer.http_rules import add_rules
from appliance.roles.indexer.measures import Measures
from appliance.roles.indexer.peers import Peers
from appliance.roles.indexer.registry import Instance, ModelKey, Registry
from appliance.routing.block_hash import LocalHash, local_hashes
from appliance.telemetry.metrics import CONTENT_TYPE

Body = TypeVar("Body", bound=msgspec.Struct)
OK = {"status": "ok"}


async def read(kind: type[Body]) -> Body:
    """The request's body; none is an empty object. Raises as `read_body` does."""
    data: Any = await request.get_data() or b"{}"
    found = read_body(data, kind)
    assert isinstance(found, kind)
    return found


def build_indexer_app(registry: Registry, peers: Peers, measures: Measures, *, loopback: bool) -> QuartTrio:
    """The app. With `loopback`, web pages of other origins are refused."""
    app = make_app("appliance.indexer")
    add_rules(app, measures, loopback=loopback)
    _add_instances(app, registry)
    _add_queries(app, registry)
    _add_peers(app, peers)

    @app.get("/health")
    async def health() -> Response:
        return Response(b"")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(measures.render(), content_type=CONTENT_TYPE)

    return app


def _add_instances(app: QuartTrio, registry: Registry) -> None:
    @app.post("/register")
    async def register() -> Response:
        body = await read(Register)
        registry.register(body.key, body.instance_id, body.dp_rank, body.source, body.block_size)
        return answer_json(OK, 201)

    @app.post("/unregister")
    async def unregister() -> Response:
        body = await read(Unregister)
        registry.unregister(body.key, body.instance_id, body.dp_rank)
        return answer_json(OK)

    @app.get("/workers")
    async def workers() -> Response:
        return answer_json([_describe(key, instance) for key, instance in registry.instances()])

    @app.post("/test/pause_listener")
    async def pause() -> Response:
        body = await read(ListenerId)
        for listener in registry.listeners(body.instance_id, body.dp_rank):
            listener.pause()
        return answer_json(OK)

    @app.post("/test/resume_listener")
    async def resume() -> Response:
        body = await read(ListenerId)
        for listener in registry.listeners(body.instance_id, body.dp_rank):
            listener.resume()
        return answer_json(OK)


def _add_queries(app: QuartTrio, registry: Registry) -> None:
    @app.post("/query")
    async def query() -> Response:
        body = await read(Query)
        model = registry.find(body.key)
        try:
            hashes = local_hashes(body.token_ids, model.block_size, lora_name=body.lora_name or "")
        except InvalidRequest as error:
            raise Unprocessable(error.message, param="token_ids") from None
        return answer_json(answer_query(model.index.find_matches(hashes), model.block_size))

    @app.post("/query_by_hash")
    async def query_by_hash() -> Response:
        body = await read(QueryByHash)
        hashes = [LocalHash(value) for value in body.local_hashes]
        model = registry.find(body.key)
        return answer_json(answer_query(model.index.find_matches(hashes), model.block_size))

    @app.get("/dump")
    async def dump_all() -> Response:
        return answer_json(
            {
                str(key): {"block_size": model.block_size, "events": list(write_router_events(model.index.dump()))}
                for key, model in registry.models.items()
            }
        )


def _add_peers(app: QuartTrio, peers: Peers) -> None:
    @app.post("/register_peer")
    async def register_peer() -> Response:
        peers.register((await read(Peer)).url)
        return answer_json(OK, 201)

    @app.post("/deregister_peer")
    async def deregister_peer() -> Response:
        peers.deregister((await read(Peer)).url)
        return answer_json(OK)

    @app.get("/peers")
    async def list_peers() -> Response:
        return answer_json(peers.urls())


def _describe(key: ModelKey, instance: Instance) -> dict[str, Any]:
    ranks = {str(rank): listener for rank, listener in sorted(instance.listeners.items())}
    return {
        "instance_id": instance.id,
        "source": "zmq",
        "status": instance.status,
        "endpoints": {rank: listener.source.endpoint for rank, listener in ranks.items()},
        "listeners": {
            rank: {"endpoint": listener.source.endpoint, "status": listener.status} for rank, listener in ranks.items()
        },
        "model_name": key.model,
        "tenant_id": key.tenant,
    }

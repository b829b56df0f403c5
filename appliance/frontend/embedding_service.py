"""`POST /v1/embeddings`: each input placed and computed, one after the other."""

import time
from collections.abc import Callable

from appliance.core.errors import ApplianceError, InvalidRequest
from appliance.core.generation import EmbeddingRequest, Pins
from appliance.core.requests import EngineRequest, StopConditions
from appliance.core.settings import RequestSettings
from appliance.frontend.accounts import Account
from appliance.frontend.answer_run import Shared
from appliance.frontend.catalog import Catalog, ServedModel
from appliance.frontend.pinning import read_pins
from appliance.frontend.protocols.openai.decode import decode_embedding
from appliance.frontend.protocols.openai.documents import embedding_document
from appliance.frontend.ready_models import ReadyModels
from appliance.frontend.request_ids import new_id
from appliance.frontend.tracing import follow, tell_workers
from appliance.routing.router import RoutingRequest
from appliance.web.exchange import Exchange


class EmbeddingService:
    """Handler of the route."""

    def __init__(
        self, ready: ReadyModels, catalog: Catalog, shared: Shared, settings: Callable[[], RequestSettings]
    ) -> None:
        self._ready, self._catalog, self._settings = ready, catalog, settings
        self._router, self._transport, self._accounts = shared.router, shared.transport, shared.accounts

    async def embedding(self, exchange: Exchange) -> None:
        """`POST /v1/embeddings`."""
        with self._accounts.request(new_id(), "embeddings") as account:
            trace = exchange.request.trace
            if trace is not None:
                follow(trace, account)
            request = decode_embedding(exchange.request.body, account.id)
            pins = read_pins(exchange.request, request.pins)
            served = await self._ready.find(request.model, account, pins)
            if served.card.task != "embed":
                raise InvalidRequest(f"the model {request.model!r} gives no embeddings", param="model")
            engine_requests = await self._embedding_requests(served, request)
            engine_requests = self._catalog.for_workers(request.model, engine_requests)
            if trace is not None:
                engine_requests = tell_workers(engine_requests, trace)
            account.prompt_tokens = sum(len(one.token_ids) for one in engine_requests)
            vectors = [await self._embed(one, account, pins) for one in engine_requests]
            account.first_token = time.perf_counter()
            body = embedding_document(request.model, vectors, account.prompt_tokens, base64_vectors=request.base64)
            exchange.respond(200, body)

    async def _embedding_requests(self, served: ServedModel, request: EmbeddingRequest) -> list[EngineRequest]:
        return [
            EngineRequest(
                id=request.id,
                model=request.model,
                token_ids=await served.prompts.input_ids(text),
                task="embed",
                stop=StopConditions(max_tokens=1),
            )
            for text in request.inputs
        ]

    async def _embed(self, request: EngineRequest, account: Account, pins: Pins) -> list[float]:
        settings = self._settings()
        for attempt in range(settings.migration_limit + 1):
            wish = RoutingRequest(id=request.id, model=request.model, token_ids=request.token_ids)
            if not attempt:
                wish.pins = pins
            try:
                with await self._router.place(wish) as placement:
                    account.workers.append(placement.worker)
                    return await self._transport.embed(placement.worker, request)
            except ApplianceError as error:
                if not error.retryable or attempt == settings.migration_limit:
                    raise
                await self._router.wait_ready(request.model, settings.hold_s)
        raise AssertionError("unreachable")

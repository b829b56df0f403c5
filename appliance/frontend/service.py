"""The request path: decode, hold until the model is ready, prepare, place, stream; again when a worker is lost."""

import random
import time
from collections.abc import Callable
from functools import partial

import msgspec

from appliance.core.errors import ApplianceError, InvalidRequest
from appliance.core.generation import EmbeddingRequest, GenerationRequest, Pins, PublicEndpoint, RoutingHints
from appliance.core.identity import ModelName, RequestId
from appliance.core.ports import WorkerTransport
from appliance.core.requests import EngineRequest, StopConditions
from appliance.core.settings import RequestSettings
from appliance.frontend.accounts import Account, Accounts
from appliance.frontend.answer_run import AnswerRun
from appliance.frontend.audit import AuditEntry, AuditLog
from appliance.frontend.catalog import Catalog, ServedModel
from appliance.frontend.client_ids import ClientIds
from appliance.frontend.dry_run import answer_dry_run
from appliance.frontend.pinning import read_hints, read_pins
from appliance.frontend.protocols.anthropic.count_tokens import count_document, estimate_tokens
from appliance.frontend.protocols.anthropic.decode import decode_count, decode_messages
from appliance.frontend.protocols.anthropic.formats import MessagesFormat
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion, decode_embedding
from appliance.frontend.protocols.openai.dispatch import NO_DISPATCH, Dispatch
from appliance.frontend.protocols.openai.documents import embedding_document
from appliance.frontend.protocols.openai.formats import chat_format, completion_format
from appliance.frontend.protocols.openai.sse import preamble
from appliance.frontend.protocols.responses.decode import decode_responses
from appliance.frontend.protocols.responses.format import ResponsesFormat
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.frontend.streams.seams import AnswerFormat, TextTools
from appliance.frontend.tracing import follow, tell_workers
from appliance.frontend.vigil import Vigil
from appliance.preprocess.answer_parsing import AnswerParsing
from appliance.preprocess.detokenise import Detokeniser, DropTokens, NoTokens
from appliance.preprocess.stops import StopMatcher
from appliance.routing.router import Router, RoutingRequest
from appliance.web.exchange import Exchange

Decode = Callable[[bytes, RequestId], GenerationRequest]
MakeFormat = Callable[[GenerationRequest], AnswerFormat]


class GenerationService:
    """Handlers of the generation routes of one front end."""

    def __init__(
        self,
        catalog: Catalog,
        router: Router,
        transport: WorkerTransport,
        accounts: Accounts,
        settings: Callable[[], RequestSettings],
        audit: AuditLog | None = None,
    ) -> None:
        self._catalog, self._router, self._transport = catalog, router, transport
        self._accounts, self._settings = accounts, settings
        self._audit = audit
        self._vigil = Vigil()
        self.client_ids = ClientIds()

    async def run(self) -> None:
        """What goes on beside the handlers, for ever: answers that wait for too long are looked after."""
        await self._vigil.run()

    async def chat(self, exchange: Exchange, *, dispatch: Dispatch = NO_DISPATCH) -> None:
        """`POST /v1/chat/completions`."""
        make_format = partial(chat_format, dispatch=dispatch)
        entry = None if self._audit is None else self._audit.begin(exchange.request.body)
        if entry is None:
            await self._generate(exchange, "chat_completions", decode_chat, make_format)
            return
        with entry:
            decode, taped = entry.decoding(decode_chat), entry.taping(make_format)
            await self._generate(exchange, "chat_completions", decode, taped, entry)

    async def completion(self, exchange: Exchange) -> None:
        """`POST /v1/completions`."""
        await self._generate(exchange, "completions", decode_completion, completion_format)

    async def response(self, exchange: Exchange) -> None:
        """`POST /v1/responses`."""
        await self._generate(exchange, "responses", decode_responses, ResponsesFormat)

    async def message(self, exchange: Exchange, *, strip_preamble: bool = False) -> None:
        """`POST /v1/messages`. `strip_preamble` takes a coding agent's billing line out of the system text."""
        decode = partial(decode_messages, strip_preamble=strip_preamble)
        await self._generate(exchange, "anthropic_messages", decode, MessagesFormat)

    async def count_tokens(self, exchange: Exchange, *, strip_preamble: bool = False) -> None:
        """`POST /v1/messages/count_tokens`. An estimate while no worker of the model was ever ready."""
        request = decode_count(exchange.request.body, new_id(), strip_preamble=strip_preamble)
        self._catalog.record(request.model)
        served = self._catalog.served(request.model)
        count = None
        try:
            if served is not None:
                count = await served.prompts.count(request)
        except ApplianceError as error:  # some models are tokenized by a worker, and it may have just gone
            if not error.retryable:
                raise
        exchange.respond(200, count_document(estimate_tokens(request) if count is None else count))

    async def embedding(self, exchange: Exchange) -> None:
        """`POST /v1/embeddings`."""
        with self._accounts.request(new_id(), "embeddings") as account:
            trace = exchange.request.trace
            if trace is not None:
                follow(trace, account)
            request = decode_embedding(exchange.request.body, account.id)
            pins = read_pins(exchange.request, request.pins)
            served = await self._ready_model(request.model, account, pins)
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

    async def _generate(
        self,
        exchange: Exchange,
        endpoint: PublicEndpoint,
        decode: Decode,
        make_format: MakeFormat,
        entry: AuditEntry | None = None,
    ) -> None:
        with self._accounts.request(new_id(), endpoint) as account:
            client_id = exchange.request.headers.get(b"x-request-id")
            if client_id is not None:
                self.client_ids.note(client_id, account.id)
            trace = exchange.request.trace
            if trace is not None:
                follow(trace, account)
            request = decode(exchange.request.body, account.id)
            pins = read_pins(exchange.request, request.pins)
            account.stream = request.stream
            served = await self._ready_model(request.model, account, pins)
            if served.card.task == "embed":
                raise InvalidRequest(f"the model {request.model!r} only gives embeddings", param="model")
            if request.tool_choice == "none" and self._settings().exclude_tools_when_tool_choice_none:
                request = msgspec.structs.replace(request, tools=None)
            prepared = await served.prompts.prepare(request)
            account.prepared = time.perf_counter()
            format = make_format(request)
            if request.hints.query_only:
                hints = read_hints(exchange.request, request.hints, self._router.settings.session_affinity_ttl_s)
                await answer_dry_run(request, prepared, hints, pins, self._router, account, format, exchange)
                return
            answer = Answer(
                request,
                exchange,
                format,
                text_tools(served, request, served.prompts.parsing(request, prepared)),
                [PromptFacts(len(one.token_ids), one.text if request.echo else "") for one in prepared],
                preamble=preamble(request, prepared[0].text, prepared[0].token_ids) if request.annotations else b"",
                received_at=account.started,
            )
            account.produced = answer.produced
            answer.routed, answer.routing_times = account.routed.worker_ids, account.routed.timing
            try:
                hints = read_hints(exchange.request, request.hints, self._router.settings.session_affinity_ttl_s)
                engine_requests = served.prompts.engine_requests(prepared, request)
                engine_requests = self._catalog.for_workers(request.model, engine_requests)
                if trace is not None:
                    engine_requests = tell_workers(engine_requests, trace)
                await self._runs(answer, engine_requests, account, pins, hints).run()
            except ApplianceError as error:
                if not answer.fail(error, final=True):
                    raise
            finally:
                self._settle(account, answer)
                if entry is not None:
                    entry.used(answer.usage())

    async def _ready_model(self, name: ModelName, account: Account, pins: Pins) -> ServedModel:
        """The model once it has a ready worker.

        Raises `ModelNotFound`, `ModelNotReady` after the hold time, `InvalidRequest` when a pinned worker is not there.
        """
        self._catalog.record(name)
        if (base := self._catalog.base(name)) != name:
            self._catalog.check_hope(name)  # workers that serve the base model need not have the adapter
            name = base
        account.model = name
        if not self._router.ready_workers(name):
            with self._catalog.reasons(name):
                await self._router.wait_ready(name, self._settings().hold_s)
        for number in (pins.worker, pins.prefill):
            if number is not None:
                self._router.check_instance(name, number)
        served = self._catalog.served(name)
        assert served is not None, "a worker joins the router after its card was learnt"
        return served

    def _runs(
        self, answer: Answer, requests: list[EngineRequest], account: Account, pins: Pins, hints: RoutingHints
    ) -> AnswerRun:
        return AnswerRun(
            answer,
            requests,
            account,
            router=self._router,
            transport=self._transport,
            accounts=self._accounts,
            settings=self._settings(),
            vigil=self._vigil,
            pins=pins,
            hints=hints,
        )

    def _settle(self, account: Account, answer: Answer) -> None:
        """Book what the answer has come to, also when it was cut off."""
        usage = answer.usage()
        account.produced = None
        account.prompt_tokens, account.output_tokens = usage.prompt_tokens, usage.completion_tokens
        account.cached_tokens = usage.cached_tokens
        account.gaps = answer.gaps
        account.error = answer.error
        account.last_step_s = time.perf_counter() - answer.last_step_at if answer.last_step_at else None
        account.first_token = answer.first_at
        answer.release()

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


def new_id() -> RequestId:
    """A fresh request id: a random UUID, without the system call that an unguessable one would cost."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return RequestId(f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}")


def text_tools(served: ServedModel, request: GenerationRequest, parsing: AnswerParsing | None) -> TextTools:
    """How this request's choices get their text from token ids, and their parts from the text."""
    continues = request.messages is None  # a completion goes on in the middle of a text
    if parsing is None and not (request.stop or continues) and request.skip_special_tokens and served.plain_text:
        return served.plain_text
    shows_marks = parsing is not None and parsing.special_tokens and request.skip_special_tokens

    def detokeniser() -> Detokeniser:
        if served.card.io == "text":
            return NoTokens()
        decoder = served.decoder
        if shows_marks:
            ends = frozenset(served.card.eos_token_ids)
            return DropTokens(decoder.detokeniser(skip_special=False, continues=continues), ends)
        return decoder.detokeniser(skip_special=request.skip_special_tokens, continues=continues)

    return TextTools(
        detokeniser=detokeniser,
        parser=(lambda: None) if parsing is None else parsing.make,
        matcher=lambda: StopMatcher(request.stop, include=request.include_stop) if request.stop else None,
        token_bytes=lambda token_id: served.decoder.token_bytes(token_id),
    )

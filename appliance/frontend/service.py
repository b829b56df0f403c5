"""The request path: decode, hold until the model is ready, prepare, place, stream; again when a worker is lost."""

import time
from collections.abc import Callable
from functools import partial

import msgspec

from appliance.core.errors import ApplianceError, InvalidRequest
from appliance.core.generation import GenerationRequest, PublicEndpoint
from appliance.core.identity import RequestId
from appliance.core.ports import WorkerTransport
from appliance.core.settings import RequestSettings
from appliance.frontend.accounts import Account, Accounts
from appliance.frontend.answer_run import AnswerRun, Shared
from appliance.frontend.audit import AuditEntry, AuditLog
from appliance.frontend.catalog import Catalog, ServedModel
from appliance.frontend.client_ids import ClientIds
from appliance.frontend.dry_run import answer_dry_run
from appliance.frontend.embedding_service import EmbeddingService
from appliance.frontend.pinning import read_hints, read_pins
from appliance.frontend.protocols.anthropic.count_tokens import count_document, estimate_tokens
from appliance.frontend.protocols.anthropic.decode import decode_count, decode_messages
from appliance.frontend.protocols.anthropic.formats import MessagesFormat
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion
from appliance.frontend.protocols.openai.dispatch import NO_DISPATCH, Dispatch
from appliance.frontend.protocols.openai.formats import chat_format, completion_format
from appliance.frontend.protocols.openai.sse import preamble
from appliance.frontend.protocols.responses.decode import decode_responses
from appliance.frontend.protocols.responses.format import ResponsesFormat
from appliance.frontend.ready_models import ReadyModels
from appliance.frontend.request_ids import new_id
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.frontend.streams.seams import AnswerFormat, TextTools
from appliance.frontend.tracing import follow, tell_workers
from appliance.frontend.vigil import Vigil
from appliance.preprocess.answer_parsing import AnswerParsing
from appliance.preprocess.detokenise import Detokeniser, DropTokens, NoTokens
from appliance.preprocess.stops import StopMatcher
from appliance.routing.router import Router
from appliance.web.exchange import Exchange, Handler

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
        self._catalog, self._router, self._accounts, self._settings = catalog, router, accounts, settings
        self._audit = audit
        self._ready = ReadyModels(catalog, router, settings)
        self._runs = Shared(router, transport, accounts, Vigil())
        self.embedding: Handler = EmbeddingService(self._ready, catalog, self._runs, settings).embedding
        """`POST /v1/embeddings`."""
        self.client_ids = ClientIds()

    async def run(self) -> None:
        """What goes on beside the handlers, for ever: answers that wait for too long are looked after."""
        await self._runs.vigil.run()

    async def chat(self, exchange: Exchange, *, dispatch: Dispatch = NO_DISPATCH) -> None:
        """`POST /v1/chat/completions`."""
        make_format = chat_format if dispatch == NO_DISPATCH else partial(chat_format, dispatch=dispatch)
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
            served = await self._ready.find(request.model, account, pins)
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
                preamble(request, prepared[0].text, prepared[0].token_ids) if request.annotations else b"",
                account.started,
            )
            account.produced = answer.produced
            answer.routed = account.routed
            try:
                hints = read_hints(exchange.request, request.hints, self._router.settings.session_affinity_ttl_s)
                engine_requests = served.prompts.engine_requests(prepared, request)
                if account.model != request.model:
                    engine_requests = self._catalog.for_workers(request.model, engine_requests)
                if trace is not None:
                    engine_requests = tell_workers(engine_requests, trace)
                settings = self._settings()
                await AnswerRun(answer, engine_requests, account, self._runs, settings, pins, hints).run()
            except ApplianceError as error:
                if not answer.fail(error, final=True):
                    raise
            finally:
                self._settle(account, answer)
                if entry is not None:
                    entry.used(answer.usage())

    def _settle(self, account: Account, answer: Answer) -> None:
        """Book what the answer has come to, also when it was cut off."""
        usage = answer.usage()
        account.produced = None
        account.prompt_tokens, account.output_tokens = usage.prompt_tokens, usage.completion_tokens
        account.cached_tokens = usage.cached_tokens
        account.gaps = answer.gaps
        account.error = answer.error
        if last_step_at := answer.last_step_at:
            account.last_step_s = time.perf_counter() - last_step_at
        account.first_token = answer.first_at
        answer.release()


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

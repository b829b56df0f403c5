"""`/v1/tokenize` and `/v1/detokenize`: what a model makes of a text, and back."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
import trio

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.core.identity import RequestId
from appliance.core.settings import RequestSettings
from appliance.frontend.catalog import Catalog, ServedModel
from appliance.frontend.protocols.openai.token_codec import conversation, read_detokenize, read_tokenize
from appliance.frontend.protocols.openai.token_schema import DetokenizeAnswer, TokenizeAnswer, TokenizeBody
from appliance.routing.router import Router
from appliance.web.exchange import Exchange

T = TypeVar("T")

THREAD_TOKENS = 4096
"""Lists from this length on are turned into text in a thread."""
THREADS = 2


class TokenService:
    """Handlers of the two routes. A model that is not ready holds them as it holds any request."""

    def __init__(self, catalog: Catalog, router: Router, settings: Callable[[], RequestSettings]) -> None:
        self._catalog, self._router, self._settings = catalog, router, settings
        self._threads = trio.CapacityLimiter(THREADS)

    async def tokenize(self, exchange: Exchange) -> None:
        """`POST /v1/tokenize`."""
        asked = read_tokenize(exchange.request.body)
        served = await self._ready_model(asked.model)
        ids = await _token_ids(served, asked)
        answer = TokenizeAnswer(tokens=ids, count=len(ids), max_model_len=served.card.context_length)
        if asked.return_token_strs:
            _check_has_text(served)
            answer.token_strs = await self._run(lambda: [served.decoder.token_text(i) for i in ids], len(ids))
        exchange.respond(200, await self._run(lambda: msgspec.json.encode(answer), len(ids)))

    async def detokenize(self, exchange: Exchange) -> None:
        """`POST /v1/detokenize`."""
        asked = read_detokenize(exchange.request.body)
        served = await self._ready_model(asked.model)
        _check_has_text(served)
        ids = asked.tokens
        size = served.card.vocab_size
        if size and any(token_id >= size for token_id in ids):
            raise InvalidRequest(f"tokens holds an id outside of the vocabulary of {size} tokens", param="tokens")
        text = await self._run(lambda: served.decoder.decode(ids, skip_special=False), len(ids))
        exchange.respond(200, msgspec.json.encode(DetokenizeAnswer(prompt=text)))

    async def _ready_model(self, name: str) -> ServedModel:
        model = self._catalog.record(name).name
        await self._router.wait_ready(model, self._settings().hold_s)
        served = self._catalog.served(model)
        assert served is not None, "a worker joins the router after its card was learnt"
        return served

    async def _run(self, work: Callable[[], T], tokens: int) -> T:
        """Short work here, long work in a thread. Cancelling waits for the thread, at most some hundred ms."""
        if tokens < THREAD_TOKENS:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._threads)


async def _token_ids(served: ServedModel, asked: TokenizeBody) -> list[int]:
    if served.card.io == "text":
        raise NotImplementedHere(f"the tokenizer of the model {asked.model!r} is not here")
    if asked.prompt is None:
        return await served.prompts.chat_tokens(conversation(asked, RequestId("")))
    return await served.prompts.tokens(asked.prompt, with_begin=asked.add_special_tokens is not False)


def _check_has_text(served: ServedModel) -> None:
    if not served.has_decoder:
        raise NotImplementedHere(f"the texts of the tokens of the model {served.card.name!r} are not here")

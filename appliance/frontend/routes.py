"""Which public paths the listener answers itself; everything else goes to the control app."""

from functools import partial

import msgspec

from appliance.core.errors import MethodNotAllowed, NotFound
from appliance.core.settings import HttpSettings
from appliance.frontend.catalog import Catalog
from appliance.frontend.protocols.openai.dispatch import Dispatch
from appliance.frontend.protocols.openai.model_list import (
    anthropic_model,
    anthropic_model_list,
    openai_model,
    openai_model_list,
)
from appliance.frontend.service import GenerationService
from appliance.web.exchange import Exchange, Handler

MODELS = "/v1/models"
MESSAGES = "/v1/messages"


class PublicRoutes:
    """The listener's route function."""

    def __init__(self, service: GenerationService, catalog: Catalog, http: HttpSettings) -> None:
        self._catalog = catalog
        self._anthropic = http.enable_anthropic_api
        strip = http.strip_anthropic_preamble
        dispatch = Dispatch(http.enable_streaming_tool_dispatch, http.enable_streaming_reasoning_dispatch)
        self._hot: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", partial(service.chat, dispatch=dispatch)),
            "/v1/completions": ("POST", service.completion),
            "/v1/embeddings": ("POST", service.embedding),
            "/v1/responses": ("POST", service.response),
            MESSAGES: ("POST", partial(service.message, strip_preamble=strip)),
            MESSAGES + "/count_tokens": ("POST", partial(service.count_tokens, strip_preamble=strip)),
            MODELS: ("GET", self._list),
        }

    def __call__(self, method: str, path: str) -> Handler | None:
        """The handler of a hot path, None for the control app. Model ids may hold slashes."""
        if not self._anthropic and path.startswith(MESSAGES):
            raise NotFound("the Anthropic API is turned off here (setting http.enable_anthropic_api)")
        found = self._hot.get(path)
        if found is None:
            if not path.startswith(MODELS + "/"):
                return None
            found = ("GET", self._one)
        allowed, handler = found
        if method != allowed and not (method == "HEAD" and allowed == "GET"):
            raise MethodNotAllowed(f"{path} takes {allowed}, not {method}")
        return handler

    async def _list(self, exchange: Exchange) -> None:
        records = self._catalog.records()
        listed = anthropic_model_list(records) if _is_anthropic(exchange) else openai_model_list(records)
        exchange.respond(200, msgspec.json.encode(listed))

    async def _one(self, exchange: Exchange) -> None:
        record = self._catalog.record(exchange.request.path[len(MODELS) + 1 :])
        shown = anthropic_model(record) if _is_anthropic(exchange) else openai_model(record)
        exchange.respond(200, msgspec.json.encode(shown))


def _is_anthropic(exchange: Exchange) -> bool:
    return exchange.request.header("anthropic-version") is not None

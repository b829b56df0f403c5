"""Which public paths the listener answers itself; everything else goes to the control app."""

from collections.abc import Callable
from functools import partial

import msgspec

from appliance.core.errors import MethodNotAllowed, NotFound
from appliance.core.settings import HttpSettings, PathSettings
from appliance.frontend.catalog import Catalog
from appliance.frontend.protocols.openai.dispatch import NO_DISPATCH, Dispatch
from appliance.frontend.protocols.openai.model_list import (
    anthropic_model,
    anthropic_model_list,
    openai_model,
    openai_model_list,
)
from appliance.frontend.protocols.request_template import RequestTemplate
from appliance.frontend.service import GenerationService
from appliance.frontend.token_service import TokenService
from appliance.web.exchange import Exchange, Handler


class PublicRoutes:
    """The listener's route function."""

    def __init__(
        self,
        service: GenerationService,
        tokens: TokenService,
        catalog: Catalog,
        http: HttpSettings,
        paths: PathSettings,
        template: RequestTemplate | None = None,
    ) -> None:
        self._catalog = catalog
        self._paths = paths
        self._anthropic = http.enable_anthropic_api
        strip = http.strip_anthropic_preamble
        dispatch = Dispatch(http.enable_streaming_tool_dispatch, http.enable_streaming_reasoning_dispatch)
        chat: Handler = service.chat if dispatch == NO_DISPATCH else partial(service.chat, dispatch=dispatch)
        response: Handler = service.response
        if template is not None:
            chat, response = _filled(chat, template.fill_chat), _filled(response, template.fill_responses)
        self._hot: dict[str, tuple[str, Handler]] = {
            paths.chat: ("POST", chat),
            paths.completions: ("POST", service.completion),
            paths.embeddings: ("POST", service.embedding),
            paths.responses: ("POST", response),
            paths.messages: ("POST", partial(service.message, strip_preamble=strip)),
            paths.messages + "/count_tokens": ("POST", partial(service.count_tokens, strip_preamble=strip)),
            paths.models: ("GET", self._list),
            "/v1/tokenize": ("POST", tokens.tokenize),
            "/v1/detokenize": ("POST", tokens.detokenize),
        }

    def __call__(self, method: str, path: str) -> Handler | None:
        """The handler of a hot path, None for the control app. Model ids may hold slashes."""
        if not self._anthropic and path.startswith(self._paths.messages):
            raise NotFound("the Anthropic API is turned off here (setting http.enable_anthropic_api)")
        found = self._hot.get(path)
        if found is None:
            if not path.startswith(self._paths.models + "/"):
                return None
            found = ("GET", self._one)
        allowed, handler = found
        if method != allowed and not (method == "HEAD" and allowed == "GET"):
            methods = (allowed, "HEAD") if allowed == "GET" else (allowed,)
            raise MethodNotAllowed(f"{path} takes {allowed}, not {method}", allow=methods)
        return handler

    async def _list(self, exchange: Exchange) -> None:
        records = self._catalog.records()
        listed = anthropic_model_list(records) if _is_anthropic(exchange) else openai_model_list(records)
        exchange.respond(200, msgspec.json.encode(listed))

    async def _one(self, exchange: Exchange) -> None:
        record = self._catalog.record(exchange.request.path[len(self._paths.models) + 1 :])
        shown = anthropic_model(record) if _is_anthropic(exchange) else openai_model(record)
        exchange.respond(200, msgspec.json.encode(shown))


def _is_anthropic(exchange: Exchange) -> bool:
    return exchange.request.header("anthropic-version") is not None


def _filled(handler: Handler, fill: Callable[[bytes], bytes]) -> Handler:
    """The handler, given bodies with what the request template adds."""

    async def fill_and_handle(exchange: Exchange) -> None:
        exchange.request.body = fill(exchange.request.body)
        await handler(exchange)

    return fill_and_handle

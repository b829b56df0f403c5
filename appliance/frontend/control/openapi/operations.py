"""What can be asked of the public port, as a table: path, bodies, and the ways in which it may fail."""

from dataclasses import dataclass

from appliance.core.settings import PathSettings

ALWAYS = (400, 401, 403, 408, 417, 431, 500, 503)
"""Of the listener or of any handler."""
WITH_BODY = (*ALWAYS, 413, 415)
WITH_MODEL = (*WITH_BODY, 404, 501, 504)
PINS = ("x-worker-instance-id", "x-prefill-instance-id", "x-dp-rank")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    path: str
    summary: str
    answers: tuple[str, ...]
    """Components that the body of a 200 is one of; none for plain text."""
    body: str | None = None
    """Component of the request's body; with one it is a POST, else a GET."""
    streams: bool = False
    """With `stream: true` the answer is a stream of events."""
    errors: tuple[int, ...] = ALWAYS
    anthropic: bool = False
    """Errors have Anthropic's shape."""
    headers: tuple[str, ...] = ()
    """Numbers that it takes in headers."""

    @property
    def method(self) -> str:
        return "get" if self.body is None else "post"


def operations(paths: PathSettings) -> list[Operation]:
    """All that are documented, in the order of the docs page."""
    return [*_generation(paths), *_tokens(), *_models(paths), *_control(paths)]


def _generation(paths: PathSettings) -> list[Operation]:
    return [
        Operation(
            path=paths.chat,
            summary="Chat completion, streamed with `stream: true`",
            body="openai.ChatBody",
            answers=("ChatCompletion",),
            streams=True,
            errors=WITH_MODEL,
            headers=PINS,
        ),
        Operation(
            path=paths.completions,
            summary="Text completion, streamed with `stream: true`",
            body="openai.CompletionBody",
            answers=("Completion",),
            streams=True,
            errors=WITH_MODEL,
            headers=PINS,
        ),
        Operation(
            path=paths.embeddings,
            summary="Embedding vectors of texts",
            body="openai.EmbeddingBody",
            answers=("Embeddings",),
            errors=WITH_MODEL,
            headers=PINS,
        ),
        Operation(
            path=paths.responses,
            summary="OpenAI Responses, streamed with `stream: true`",
            body="responses.ResponsesBody",
            answers=("Response",),
            streams=True,
            errors=WITH_MODEL,
            headers=PINS,
        ),
        Operation(
            path=paths.messages,
            summary="Anthropic Messages, streamed with `stream: true`",
            body="anthropic.MessagesBody",
            answers=("Message",),
            streams=True,
            errors=WITH_MODEL,
            anthropic=True,
            headers=PINS,
        ),
        Operation(
            path=paths.messages + "/count_tokens",
            summary="Input tokens of an Anthropic request",
            body="anthropic.CountBody",
            answers=("TokenCount",),
            errors=WITH_MODEL,
            anthropic=True,
        ),
    ]


def _tokens() -> list[Operation]:
    return [
        Operation(
            path="/v1/tokenize",
            summary="Token ids of a text or a conversation",
            body="openai.TokenizeBody",
            answers=("TokenizeAnswer",),
            errors=WITH_MODEL,
        ),
        Operation(
            path="/v1/detokenize",
            summary="Text of token ids",
            body="openai.DetokenizeBody",
            answers=("DetokenizeAnswer",),
            errors=WITH_MODEL,
        ),
    ]


def _models(paths: PathSettings) -> list[Operation]:
    return [
        Operation(path=paths.models, summary="Models that are served", answers=("Models", "AnthropicModels")),
        Operation(
            path=paths.models + "/{model_id}",
            summary="One model; the id may hold slashes",
            answers=("Model", "AnthropicModel"),
            errors=(*ALWAYS, 404),
        ),
    ]


def _control(paths: PathSettings) -> list[Operation]:
    return [
        Operation(path=paths.health, summary="Readiness: 503 before ready and while draining", answers=("Health",)),
        Operation(path=paths.live, summary="Liveness: 200 until exit", answers=("Live",)),
        Operation(path=paths.metrics, summary="Prometheus metrics", answers=()),
        Operation(path=paths.metrics + "/workers", summary="Engines with metrics", answers=("ScrapeTargets",)),
        Operation(
            path=paths.metrics + "/workers/{worker}",
            summary="An engine's own Prometheus metrics, unchanged",
            answers=(),
            errors=(*ALWAYS, 404),
        ),
        Operation(path="/busy_threshold", summary="Load-shedding thresholds that are set", answers=("BusyThresholds",)),
        Operation(
            path="/busy_threshold",
            summary="Set load-shedding thresholds of a model",
            body="control.BusyThreshold",
            answers=("BusyThreshold",),
            errors=(*WITH_BODY, 404, 501),
        ),
    ]

"""The OpenAPI document of the public port, and the list of paths that the docs page shows."""

from typing import Any

from appliance import __version__
from appliance.core.settings import PathSettings

_JSON = "application/json"

# path, method, summary, answers with a stream
ROUTES = (
    ("/v1/chat/completions", "post", "Chat completion, streamed with `stream: true`", True),
    ("/v1/completions", "post", "Text completion, streamed with `stream: true`", True),
    ("/v1/embeddings", "post", "Embedding vectors of texts", False),
    ("/v1/responses", "post", "OpenAI Responses", True),
    ("/v1/messages", "post", "Anthropic Messages", True),
    ("/v1/messages/count_tokens", "post", "Input tokens of an Anthropic request", False),
    ("/v1/tokenize", "post", "Token ids of a text", False),
    ("/v1/detokenize", "post", "Text of token ids", False),
    ("/v1/models", "get", "Models that are served", False),
    ("/v1/models/{model_id}", "get", "One model; the id may hold slashes", False),
    ("/health", "get", "Readiness: 503 before ready and while draining", False),
    ("/live", "get", "Liveness: 200 until exit", False),
    ("/metrics", "get", "Prometheus metrics", False),
    ("/busy_threshold", "get", "Load-shedding thresholds that are set", False),
    ("/busy_threshold", "post", "Set load-shedding thresholds of a model", False),
)


def describe_api(paths_: PathSettings) -> dict[str, Any]:
    """The document as plain data."""
    paths: dict[str, dict[str, Any]] = {}
    for path, method, summary, streams in ROUTES:
        paths.setdefault(path, {})[method] = _operation(path, method, summary, streams)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dynamo appliance", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": _error_schema()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"apiKey": []}],
    }


def _operation(path: str, method: str, summary: str, streams: bool) -> dict[str, Any]:
    kind = "text/plain" if path == "/metrics" else _JSON
    content: dict[str, Any] = {kind: {}}
    if streams:
        content["text/event-stream"] = {}
    error = {"description": "Refused", "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": f"{method}_{path.strip('/').replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": {"200": {"description": "Done", "content": content}, "4XX": error, "5XX": error},
    }
    if method == "post":
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": {"type": "object"}}}}
    if "{model_id}" in path:
        operation["parameters"] = [{"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation


def _error_schema() -> dict[str, Any]:
    member = {"type": ["string", "null"]}
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": member,
                    "code": member,
                },
            }
        },
    }

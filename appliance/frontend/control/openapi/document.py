"""The whole document as plain data."""

from http import HTTPStatus
from typing import Any

from appliance import __version__
from appliance.core.settings import PathSettings
from appliance.frontend.control.openapi.answers import answer_schemas
from appliance.frontend.control.openapi.operations import Operation, operations
from appliance.frontend.control.openapi.requests import Schema, reference, request_schemas

_JSON = "application/json"
_UNSIGNED: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
_EVENT: Schema = {
    "description": "Each event of the stream; `data` is JSON, or `[DONE]` at the end of OpenAI's streams",
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}


def describe_api(paths: PathSettings) -> dict[str, Any]:
    """The OpenAPI document for routes at these paths."""
    described: dict[str, dict[str, Any]] = {}
    for operation in operations(paths):
        described.setdefault(operation.path, {})[operation.method] = _describe(operation, paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dynamo appliance", "version": __version__},
        "paths": described,
        "components": {
            "schemas": request_schemas() | answer_schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"apiKey": []}],
    }


def _describe(operation: Operation, paths: PathSettings) -> dict[str, Any]:
    name = operation.path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method}_{name}",
        "parameters": _parameters(operation),
        "responses": {"200": {"description": "Done", "content": _content(operation)}}
        | {str(status): _failure(operation, status, paths) for status in sorted(operation.errors)},
    }
    if operation.body is not None:
        content = {_JSON: {"schema": reference(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{model_id}" in operation.path:
        found.append({"name": "model_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}})
    if "AnthropicModel" in "".join(operation.answers):
        found.append({"name": "anthropic-version", "in": "header", "schema": {"type": "string"}})
    found += [{"name": name, "in": "header", "schema": _UNSIGNED} for name in operation.headers]
    return found


def _content(operation: Operation) -> dict[str, Any]:
    schemas = [reference(f"answers.{name}") for name in operation.answers]
    if not schemas:
        return {"text/plain": {"schema": {"type": "string"}}}
    content: dict[str, Any] = {_JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
    if operation.streams:
        content["text/event-stream"] = {"schema": _EVENT}
    return content


def _failure(operation: Operation, status: int, paths: PathSettings) -> dict[str, Any]:
    shape = "answers.AnthropicError" if operation.anthropic else "answers.Error"
    schema = reference(shape)
    if operation.path == paths.health and status == HTTPStatus.SERVICE_UNAVAILABLE:
        schema = {"anyOf": [reference("answers.Health"), schema]}
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {_JSON: {"schema": schema}},
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        described["headers"] = _RETRY_AFTER
    return described

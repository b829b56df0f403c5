"""The body of a request to an OpenAI server, from an engine request of text. Pure."""

from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.requests import EngineRequest, Guided, Sampling

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def text_body(
    request: EngineRequest, *, model: str, context: int, server_finds_calls: bool
) -> tuple[str, dict[str, Any]]:
    """The route and what to send there. Raises `InvalidRequest` for what cannot be asked of such a server."""
    if request.logprobs is not None:
        raise InvalidRequest("this model's server gives no log-probabilities here", param="logprobs")
    if request.kv_transfer is not None:
        raise InvalidRequest("this model's server cannot split a request between prefill and decode")
    body: dict[str, Any] = {
        "model": request.lora or model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling_members(request.sampling),
    }
    if request.stop.max_tokens < context:  # else the client named no limit, and the server knows the prompt's length
        body["max_tokens"] = request.stop.max_tokens
    if request.stop.min_tokens:
        body["min_tokens"] = request.stop.min_tokens
    if request.stop.ignore_eos:
        body["ignore_eos"] = True
    if request.priority:
        body["priority"] = request.priority
    if request.guided is not None:
        body["response_format"] = _response_format(request.guided)
    if request.messages is None:
        return COMPLETIONS, {**body, "prompt": request.text or ""}
    body["messages"] = request.messages
    if request.tools:
        body["tools"] = request.tools
        body["tool_choice"] = "auto" if server_finds_calls and request.guided is None else "none"
    if request.template_args:
        body["chat_template_kwargs"] = request.template_args
    return CHAT, body


def sampling_members(sampling: Sampling) -> dict[str, Any]:
    """The set members of a sampling, by the names that servers know them under."""
    members: dict[str, Any] = msgspec.to_builtins(sampling)
    if sampling.logit_bias is not None:
        members["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return members


def _response_format(guided: Guided) -> dict[str, Any]:
    if guided.json_schema is None:
        raise InvalidRequest("this model's server takes JSON schemas only to guide its output", param="response_format")
    schema = msgspec.json.decode(guided.json_schema)
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema}}

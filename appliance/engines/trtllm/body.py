"""What TensorRT-LLM's server is asked for a stream of tokens. It refuses members that it does not know. Pure."""

import re
from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.requests import EngineRequest, Guided
from appliance.engines.remote.body import sampling_members


def token_question(model: str, prompt_tokens: int) -> dict[str, Any]:
    """A request whose answer shows whether a server gives token ids, with any prompt of some length."""
    return {"model": model, "prompt": [1] * prompt_tokens, "max_tokens": 1, "detokenize": False}


def completions_body(request: EngineRequest, *, model: str, budget: int) -> dict[str, Any]:
    """For the public route, with token ids in and out. Raises `InvalidRequest` for a request that is split."""
    if request.kv_transfer is not None:
        raise InvalidRequest("this model's server cannot split a request between prefill and decode")
    body = {
        "model": model,
        "prompt": request.token_ids,
        "detokenize": False,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling_members(request.sampling),
        "max_tokens": budget,
    }
    if request.stop.min_tokens:
        body["min_tokens"] = min(request.stop.min_tokens, budget)
    if request.stop.stop_token_ids:
        body["stop_token_ids"] = list(request.stop.stop_token_ids)
    if request.stop.ignore_eos:
        body["ignore_eos"] = True
    if request.logprobs is not None:
        body["logprobs"] = max(request.logprobs, 1)
    if request.guided is not None:
        body["response_format"] = _response_format(request.guided)
    return body


def _response_format(guided: Guided) -> dict[str, Any]:
    if guided.json_schema is not None:
        return {"type": "json_schema", "json_schema": msgspec.json.decode(guided.json_schema)}
    if guided.regex is not None:
        return {"type": "regex", "regex": guided.regex}
    if guided.choice is not None:
        return {"type": "regex", "regex": "|".join(f"({re.escape(word)})" for word in guided.choice)}
    return {"type": "ebnf", "ebnf": guided.grammar}

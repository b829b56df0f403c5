"""What vLLM is asked for a stream of tokens, on either of its routes that take token ids. Pure."""

from typing import Any

import msgspec

from appliance.core.requests import EngineRequest, Guided
from appliance.engines.remote.body import sampling_members

GENERATE, COMPLETIONS = "/inference/v1/generate", "/v1/completions"
NO_PREFILL_YET: dict[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


def is_prefill(request: EngineRequest) -> bool:
    """The first half of a request that is split."""
    return request.kv_transfer is not None and request.kv_transfer.phase == "prefill"


def generate_body(request: EngineRequest, *, model: str, name: str, budget: int) -> dict[str, Any]:
    """For the route of tokens only."""
    sampling = {**_sampling(request, budget), "detokenize": False}
    if request.logprobs is not None:
        sampling["logprobs"] = request.logprobs
    return {
        "request_id": name,
        "model": request.lora or model,
        "token_ids": request.token_ids,
        "sampling_params": sampling,
        "return_token_ids": True,
        **_common(request),
    }


def completions_body(request: EngineRequest, *, model: str, budget: int) -> dict[str, Any]:
    """For the public route, with token ids in and out."""
    body = {
        "model": request.lora or model,
        "prompt": request.token_ids,
        **_sampling(request, budget),
        "return_token_ids": True,
        "skip_special_tokens": False,
        **_common(request),
    }
    if request.logprobs is not None:
        body |= {"logprobs": request.logprobs, "return_tokens_as_token_ids": True}
    return body


def structured_outputs(guided: Guided) -> dict[str, Any]:
    """The constraint under vLLM's names."""
    if guided.json_schema is not None:
        return {"json": msgspec.json.decode(guided.json_schema)}
    if guided.regex is not None:
        return {"regex": guided.regex}
    if guided.choice is not None:
        return {"choice": list(guided.choice)}
    return {"grammar": guided.grammar}


def _sampling(request: EngineRequest, budget: int) -> dict[str, Any]:
    members = sampling_members(request.sampling)
    prefill = is_prefill(request)
    members["max_tokens"] = 1 if prefill else budget
    if request.stop.min_tokens and not prefill:
        members["min_tokens"] = min(request.stop.min_tokens, budget)
    if request.stop.stop_token_ids:
        members["stop_token_ids"] = list(request.stop.stop_token_ids)
    if request.stop.ignore_eos:
        members["ignore_eos"] = True
    if request.guided is not None:
        members["structured_outputs"] = structured_outputs(request.guided)
    return members


def _common(request: EngineRequest) -> dict[str, Any]:
    members: dict[str, Any] = {"stream": not is_prefill(request)}
    if members["stream"]:
        members["stream_options"] = {"include_usage": True}
    if request.priority:
        members["priority"] = request.priority
    if request.kv_transfer is not None:
        members["kv_transfer_params"] = request.kv_transfer.params if not is_prefill(request) else NO_PREFILL_YET
    return members

"""What SGLang is asked for a stream of tokens. Pure."""

import re
from typing import Any

from appliance.core.requests import EngineRequest, Guided
from appliance.engines.remote.body import sampling_members

_SAMPLING = {"seed": "sampling_seed"}
"""Members that have another name there."""


def generate_body(request: EngineRequest, *, name: str, budget: int, rank: int | None = None) -> dict[str, Any]:
    """For `/generate`; `rank` is the data-parallel one, when there are several."""
    body: dict[str, Any] = {
        "rid": name,
        "input_ids": request.token_ids,
        "sampling_params": _sampling(request, budget),
        "stream": True,
    }
    if request.logprobs is not None:
        body |= {"return_logprob": True, "top_logprobs_num": request.logprobs, "logprob_start_len": -1}
    if request.lora:
        body["lora_path"] = request.lora
    if request.priority:
        body["priority"] = request.priority
    if rank is not None:
        body |= {"routed_dp_rank": rank, "data_parallel_rank": rank}  # the second is the older name
    if (halves := request.kv_transfer) is not None:
        body |= {
            "bootstrap_host": halves.bootstrap_host,
            "bootstrap_port": halves.bootstrap_port,
            "bootstrap_room": halves.bootstrap_room,
        }
    return body


def _sampling(request: EngineRequest, budget: int) -> dict[str, Any]:
    members = {_SAMPLING.get(key, key): value for key, value in sampling_members(request.sampling).items()}
    members["max_new_tokens"] = budget
    members["skip_special_tokens"] = False
    if request.stop.min_tokens:
        members["min_new_tokens"] = min(request.stop.min_tokens, budget)
    if request.stop.stop_token_ids:
        members["stop_token_ids"] = list(request.stop.stop_token_ids)
    if request.stop.ignore_eos:
        members["ignore_eos"] = True
    return members | (_constraint(request.guided) if request.guided is not None else {})


def _constraint(guided: Guided) -> dict[str, Any]:
    if guided.json_schema is not None:
        return {"json_schema": guided.json_schema}
    if guided.regex is not None:
        return {"regex": guided.regex}
    if guided.choice is not None:
        return {"regex": "|".join(f"({re.escape(word)})" for word in guided.choice)}
    return {"ebnf": guided.grammar}

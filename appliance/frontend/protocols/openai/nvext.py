"""`nvext`: the extras that every protocol takes in one object."""

from typing import Annotated, Any

import msgspec

from appliance.core.generation import NO_PINS, Pins

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Unsigned64 = Annotated[int, msgspec.Meta(ge=0)]  # msgspec takes no bound above 63 bits
Signed32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

_EMPTY = msgspec.Raw(b"")


def absent() -> Any:
    """The default of a raw member: empty. Made by a function, as the API's schema cannot show it."""
    return msgspec.field(default_factory=lambda: _EMPTY)


class RouterHints(msgspec.Struct, kw_only=True):
    """`nvext.router`: latency targets, in milliseconds."""

    ttft_target: float | None = None
    itl_target: float | None = None


class AgentHints(msgspec.Struct, kw_only=True):
    """`nvext.agent_hints`: what the caller knows of its own traffic."""

    priority: Signed32 | None = None
    osl: TokenId | None = None
    speculative_prefill: bool | None = None
    latency_sensitivity: float | None = None


class Nvext(msgspec.Struct, kw_only=True):
    """`nvext`. Unknown members are ignored, wrong types are refused; instance pins and hints may have no effect."""

    greed_sampling: bool | None = None
    ignore_eos: bool | None = None
    use_raw_prompt: bool | None = None
    annotations: list[str] | None = None
    backend_instance_id: Unsigned64 | None = None
    token_data: list[TokenId] | None = None
    max_thinking_tokens: TokenId | None = None
    extra_fields: list[str] | None = None
    prefill_worker_id: Unsigned64 | None = None
    decode_worker_id: Unsigned64 | None = None
    dp_rank: TokenId | None = None
    prefill_dp_rank: TokenId | None = None
    request_timestamp_ms: float | None = None
    router: RouterHints | None = None
    agent_hints: AgentHints | None = None
    agent_context: dict[str, Any] | None = None
    session_control: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    guided_json: msgspec.Raw = absent()
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_decoding_backend: str | None = None


NO_NVEXT = Nvext()


def pins_of(nvext: Nvext) -> Pins:
    """The workers that the extras choose."""
    worker = nvext.backend_instance_id if nvext.decode_worker_id is None else nvext.decode_worker_id
    if worker is None and nvext.prefill_worker_id is None and nvext.dp_rank is None:
        return NO_PINS
    return Pins(worker=worker, prefill=nvext.prefill_worker_id, dp_rank=nvext.dp_rank)


def nvext_members(nvext: Nvext | None) -> dict[str, Any]:
    """Members of the internal request that come from the extras alone, in every protocol."""
    nvext = nvext or NO_NVEXT
    hints = nvext.agent_hints
    return {
        "token_ids": nvext.token_data,
        "use_raw_prompt": bool(nvext.use_raw_prompt),
        "priority": (hints.priority or 0) if hints else 0,
        "annotations": tuple(nvext.annotations or ()),
        "extra_fields": tuple(nvext.extra_fields or ()),
        "pins": pins_of(nvext),
    }

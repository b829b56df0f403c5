"""`nvext`: the extras that every protocol takes in one object."""

from typing import Annotated, Any, Literal

import msgspec

from appliance.core.generation import NO_HINTS, NO_PINS, GenerationRequest, Pins, RouterOverrides, RoutingHints

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Unsigned64 = Annotated[int, msgspec.Meta(ge=0)]  # msgspec takes no bound above 63 bits
Signed32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


def absent() -> Any:
    """The default of a raw member: empty. Made by a call, as the API's schema cannot show it."""
    return msgspec.field(default_factory=msgspec.Raw)


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


class SessionControl(msgspec.Struct, kw_only=True):
    """`nvext.session_control`: requests that shall meet the same worker."""

    session_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    action: Literal["open", "close", "bind"] | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] = 300
    """Seconds without a request after which the session is forgotten."""


class RoutingConstraints(msgspec.Struct, kw_only=True):
    """`nvext.routing_constraints`: what the worker must have, and what is liked of it, by weight."""

    required_taints: list[str] = []
    preferred_taints: dict[str, float] = {}


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
    decode_dp_rank: TokenId | None = None
    prefill_dp_rank: TokenId | None = None
    request_timestamp_ms: float | None = None
    router: RouterHints | None = None
    agent_hints: AgentHints | None = None
    agent_context: dict[str, Any] | None = None
    session_control: SessionControl | None = None
    router_config_override: RouterOverrides | None = None
    routing_constraints: RoutingConstraints | None = None
    allowed_worker_ids: list[Unsigned64] | None = None
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
    rank = nvext.dp_rank if nvext.decode_dp_rank is None else nvext.decode_dp_rank
    pins = Pins(worker=worker, prefill=nvext.prefill_worker_id, dp_rank=rank, prefill_dp_rank=nvext.prefill_dp_rank)
    return NO_PINS if pins == NO_PINS else pins


def hints_of(nvext: Nvext) -> RoutingHints:
    """What the extras tell the router."""
    agent, session, constraints = nvext.agent_hints, nvext.session_control, nvext.routing_constraints
    members: dict[str, Any] = {}
    if agent is not None:
        jump = agent.latency_sensitivity if agent.priority is None else agent.priority
        members |= {"priority_jump_s": max(0.0, float(jump or 0)), "expected_output_tokens": agent.osl}
    if session is not None:
        members |= {
            "session_id": session.session_id,
            "session_ttl_s": 0.0 if session.action is None else session.timeout,
        }
        members["session_action"] = "open" if session.action == "bind" else session.action
    if constraints is not None:
        members["required_taints"] = tuple(constraints.required_taints)
        members["preferred_taints"] = constraints.preferred_taints
    if nvext.allowed_worker_ids is not None:
        members["allowed_workers"] = tuple(nvext.allowed_worker_ids)
    if nvext.router_config_override is not None:
        members["overrides"] = nvext.router_config_override
    if nvext.annotations and any(name.partition(":")[0] == "query_instance_id" for name in nvext.annotations):
        members["query_only"] = True
    return RoutingHints(**members) if members else NO_HINTS


def with_nvext(request: GenerationRequest, nvext: Nvext) -> GenerationRequest:
    """The request with what comes from the extras alone, in every protocol."""
    hints = nvext.agent_hints
    return msgspec.structs.replace(
        request,
        token_ids=nvext.token_data,
        use_raw_prompt=bool(nvext.use_raw_prompt),
        ignore_eos=bool(request.ignore_eos or nvext.ignore_eos),
        priority=(hints.priority or 0) if hints else 0,
        annotations=tuple(nvext.annotations or ()),
        extra_fields=tuple(nvext.extra_fields or ()),
        pins=pins_of(nvext),
        hints=hints_of(nvext),
    )

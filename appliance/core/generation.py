"""The internal form of a generation request: every public protocol is decoded into it."""

from typing import Annotated, Any, Literal

import msgspec

from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import Guided, Sampling

PublicEndpoint = Literal["chat_completions", "completions", "embeddings", "responses", "anthropic_messages"]


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """Workers that the client chose, by the numbers that `/health` shows. None leaves the choice to the router."""

    worker: int | None = None
    prefill: int | None = None
    dp_rank: int | None = None
    """A rank that the worker does not have is the router's choice too."""
    prefill_dp_rank: int | None = None


NO_PINS = Pins()


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class RouterOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the router that one request changes for itself; None leaves the setting."""

    overlap_score_credit: Share | None = None
    prefill_load_scale: NotNegative | None = None
    router_temperature: NotNegative | None = None
    assume_kv_reuse: bool | None = None
    track_prefill_tokens: bool | None = None
    shared_cache_multiplier: Share | None = None
    overlap_score_weight: NotNegative | None = None
    """Obsolete: the prefill load scale, and with 0 no credit either. Wins over both."""


class RoutingHints(msgspec.Struct, frozen=True, kw_only=True):
    """What a request tells the router about itself and wants of its worker."""

    priority_jump_s: float = 0.0
    """Seconds that it counts as having waited already."""
    expected_output_tokens: int | None = None
    session_id: str = ""
    """Requests of one session go to one worker."""
    session_action: Literal["open", "close"] | None = None
    """None: the session is used, when there is one by this id."""
    session_ttl_s: float = 0.0
    """Of a session that the request may open: idle seconds until it is forgotten. 0: it opens none."""
    required_taints: tuple[str, ...] = ()
    """What a worker must have, all of it."""
    preferred_taints: dict[str, float] = {}
    """Weights of what makes a worker cheaper, or dearer when negative."""
    allowed_workers: tuple[int, ...] | None = None
    """Instance numbers to choose from; None: all."""
    overrides: RouterOverrides | None = None
    query_only: bool = False
    """Only the choice is wanted: nothing is booked and nothing is run."""


NO_HINTS = RoutingHints()


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One validated client request. Exactly one of `messages` and `prompts` is set."""

    id: RequestId
    model: ModelName
    endpoint: PublicEndpoint
    messages: list[dict[str, Any]] | None = None
    """Chat: plain dicts as templates want them; content is a string or a list of `{"type": "text", "text": ...}`."""
    tools: list[dict[str, Any]] | None = None
    prompts: list[str | list[int]] | None = None
    """Completions: one choice (times `n`) per prompt."""
    template_args: dict[str, Any] = {}
    use_raw_prompt: bool = False
    """Chat without a template: message contents joined as they are."""
    token_ids: list[int] | None = None
    """`nvext.token_data`: the prompt is already tokenized."""
    sampling: Sampling = Sampling()
    n: int = 1
    max_tokens: int | None = None
    """None: as many as the context leaves room for."""
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    """Completions: integers given among the stop strings."""
    include_stop: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    guided: Guided | None = None
    logprobs: int | None = None
    """None: none; k: the chosen token's and the k likeliest ones'."""
    tokens_as_ids: bool = False
    """Log-probabilities name tokens `token_id:<id>` instead of by their text."""
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    tool_choice: str = "auto"
    """`none`, `auto`, `required`, or the name of the one function that must be called, behind `function:`."""
    parallel_tool_calls: bool = True
    """False: only the first call is kept."""
    thinking: bool | None = None
    """Whether the model shall reason; None leaves it to the template."""
    priority: int = 0
    annotations: tuple[str, ...] = ()
    extra_fields: tuple[str, ...] = ()
    pins: Pins = NO_PINS
    hints: RoutingHints = NO_HINTS
    user: str | None = None
    repeated: dict[str, Any] = {}
    """Responses: members of the body that the answer says again."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One validated embeddings request: texts or token sequences in, one vector each out."""

    id: RequestId
    model: ModelName
    inputs: list[str | list[int]]
    base64: bool = False
    """`encoding_format: base64`: vectors as base64 of little-endian float32."""
    dimensions: int | None = None
    pins: Pins = NO_PINS

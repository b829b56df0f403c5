"""Request members beyond OpenAI's own at top level: sampling and guided-decoding extras."""

from typing import Any

import msgspec

from appliance.core.identity import ModelName
from appliance.frontend.protocols.openai.nvext import Nvext, absent


class StreamOptions(msgspec.Struct, kw_only=True):
    """`stream_options`: which usage a stream carries."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class GenerationFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Members that chat and completions share: OpenAI's sampling fields and the extras."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    max_tokens: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    guided_json: msgspec.Raw = absent()
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: str | None = None
    return_tokens_as_token_ids: bool | None = None
    nvext: Nvext | None = None

"""The bodies of `POST /v1/tokenize` and `/v1/detokenize` and their answers as types."""

from typing import Any

import msgspec

from appliance.core.identity import ModelName
from appliance.frontend.protocols.openai.chat_schema import Message, Tool
from appliance.frontend.protocols.openai.nvext import TokenId


class TokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text or a conversation to turn into token ids; exactly one of them."""

    model: ModelName
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    """For a prompt: put the begin token in front if the model's prompts have one. Templates write their own."""
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Token ids to turn into text."""

    model: ModelName
    tokens: list[TokenId]


class TokenizeAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Token ids, and how many the model has room for."""

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class DetokenizeAnswer(msgspec.Struct, kw_only=True):
    """The text of token ids, special tokens included."""

    prompt: str

"""The body of `POST /v1/completions` as types."""

from typing import Any

from appliance.frontend.protocols.openai.extensions import GenerationFields
from appliance.frontend.protocols.openai.nvext import TokenId


class CompletionBody(GenerationFields, kw_only=True):
    """A completion request as the client wrote it. Which prompt arrays are allowed is checked in `validate`."""

    prompt: str | list[str | TokenId | list[TokenId]] | None = None
    prompt_embeds: Any = None
    stop: str | list[str | TokenId] | None = None
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

"""What streams hand to a protocol's format: finished choices, token details, counts."""

from typing import Any, Literal

import msgspec

Finish = Literal["stop", "length"]
Members = dict[str, Any]
"""Members of a response's `nvext`."""


class TokenChoice(msgspec.Struct, frozen=True, gc=False):
    """A token that was possible at one position."""

    token: str
    logprob: float
    bytes: list[int]


class TokenDetail(msgspec.Struct, frozen=True, gc=False):
    """An emitted token with its log-probability and the likeliest alternatives, best first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TokenChoice]
    offset: int
    """Where the token starts in the choice's text, in characters."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of a whole request: each prompt counted once, all choices' outputs."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class ChoiceOutcome(msgspec.Struct, frozen=True):
    """One finished choice."""

    index: int
    text: str
    finish: Finish
    details: list[TokenDetail] | None = None
    """None: no log-probabilities were asked for."""

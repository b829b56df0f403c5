"""What streams hand to a protocol's format: finished choices, token details, counts."""

from typing import Any, Literal

import msgspec

from appliance.core.output import OutputPart

Finish = Literal["stop", "length", "tool_calls"]
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
    reasoning_tokens: int = 0


class ChoiceOutcome(msgspec.Struct, frozen=True):
    """One finished choice."""

    index: int
    text: str
    """All text parts joined."""
    finish: Finish
    parts: list[OutputPart] = []
    """Text, reasoning and calls in the order generated, neighbours of one kind merged."""
    stop_string: str | None = None
    """The stop string that ended it."""
    details: list[TokenDetail] | None = None
    """None: no log-probabilities were asked for."""

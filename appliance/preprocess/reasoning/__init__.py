"""Splits a model's reasoning from its answer, for every family that marks it."""

from appliance.preprocess.reasoning.choice import choose_reasoning_parser
from appliance.preprocess.reasoning.families import REASONING_PARSERS, needs_special_tokens
from appliance.preprocess.reasoning.parser import (
    ReasoningParser,
    make_reasoning_parser,
    prompt_opens_reasoning,
    reasoning_at_start,
)

__all__ = [
    "REASONING_PARSERS",
    "ReasoningParser",
    "choose_reasoning_parser",
    "make_reasoning_parser",
    "needs_special_tokens",
    "prompt_opens_reasoning",
    "reasoning_at_start",
]

"""The body of one engine call, from an engine request: sampling, limits, constraint, log-probabilities."""

import random
from dataclasses import dataclass
from typing import Any

from appliance.core.requests import EngineRequest, Sampling

ENGINE_NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repeat_penalty",
}
"""Sampling fields and what llama.cpp calls them."""
SEED_LIMIT = 2**32 - 1  # the engine's seeds are 32 bit, and it takes this last value for "random"


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One engine call of a stream. A stream with a minimum length takes two: first with end tokens forbidden."""

    prompt: list[int]
    max_tokens: int
    banned: frozenset[int] = frozenset()
    """Ids that may not be drawn."""
    stop_ids: frozenset[int] = frozenset()
    """Ids that end the stream."""
    end_allowed: bool = True
    seed: int


def draw_seed(sampling: Sampling) -> int:
    """The request's seed in the engine's range, or one by chance."""
    seed = random.getrandbits(32) if sampling.seed is None else sampling.seed
    return seed % SEED_LIMIT


def completion_body(
    request: EngineRequest, leg: Leg, *, slot: int, context: int, defaults: Sampling, grammar: str | None
) -> dict[str, Any]:
    """What `handle_completions` is given. Fields that neither request nor model set stay the engine's own."""
    body: dict[str, Any] = {
        "prompt": leg.prompt,
        "n_predict": leg.max_tokens,
        "id_slot": slot,
        "seed": leg.seed,
        "cache_prompt": True,
        "stream": True,
        "verbose": True,  # token ids come in the verbose part of a message only
        "return_tokens": True,
        "return_progress": True,  # a message per prefill step: the place to cancel a long prompt
        "ignore_eos": request.stop.ignore_eos or not leg.end_allowed,
        **_sampling_fields(request.sampling, defaults, context),
    }
    if biases := _biases(request.sampling, leg):
        body["logit_bias"] = biases
    if request.logprobs is not None:
        body["n_probs"] = max(1, request.logprobs)
    if grammar is not None:
        body["grammar"] = grammar
    return body


def _sampling_fields(asked: Sampling, defaults: Sampling, context: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, engine_name in ENGINE_NAMES.items():
        value = getattr(asked, name)
        if value is None:
            value = getattr(defaults, name)
        if value is not None:
            fields[engine_name] = value
    if any(name.endswith("penalty") for name in fields):
        # The engine looks back 64 tokens by default; the public meaning of penalties is the whole text.
        fields["repeat_last_n"] = context
    return fields


def _biases(asked: Sampling, leg: Leg) -> list[list[int | float | bool]]:
    """False in place of a number means never."""
    biases: list[list[int | float | bool]] = [[token, bias] for token, bias in (asked.logit_bias or {}).items()]
    return biases + [[token, False] for token in sorted(leg.banned)]

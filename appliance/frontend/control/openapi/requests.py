"""Schemas of request bodies: the structs that they are read into, with the bounds that are checked behind them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.core.records import BusyThreshold
from appliance.frontend.protocols.anthropic.schema import CountBody, MessagesBody
from appliance.frontend.protocols.anthropic.validate import MESSAGES_BOUNDS, ROLES
from appliance.frontend.protocols.openai.bounds import SMALLEST, Bounds
from appliance.frontend.protocols.openai.chat_schema import ChatBody
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.token_schema import DetokenizeBody, TokenizeBody
from appliance.frontend.protocols.openai.validate import (
    CHAT_BOUNDS,
    COMPLETION_BOUNDS,
    EMBEDDING_BOUNDS,
    STOPS_LIMIT,
)
from appliance.frontend.protocols.responses.schema import ResponsesBody
from appliance.frontend.protocols.responses.validate import BOUNDS as RESPONSES_BOUNDS
from appliance.frontend.protocols.responses.validate import EFFORTS, SUMMARIES, TRUNCATIONS, VERBOSITIES

Schema = dict[str, Any]
BODIES: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "openai": (ChatBody, CompletionBody, EmbeddingBody, TokenizeBody, DetokenizeBody),
    "responses": (ResponsesBody,),
    "anthropic": (MessagesBody, CountBody),
    "control": (BusyThreshold,),
}
"""By family: types of different families may have the same name."""
BOUNDS: dict[str, tuple[Bounds, ...]] = {
    "openai.ChatBody": CHAT_BOUNDS,
    "openai.CompletionBody": COMPLETION_BOUNDS,
    "openai.EmbeddingBody": EMBEDDING_BOUNDS,
    "responses.ResponsesBody": RESPONSES_BOUNDS,
    "anthropic.MessagesBody": MESSAGES_BOUNDS,
}


_NOT_EMPTY: Schema = {"minLength": 1, "minItems": 1}
_STOPS: Schema = {"minLength": 1, "maxItems": STOPS_LIMIT}
_GENERATION: dict[str, Schema] = {
    "model": _NOT_EMPTY,
    "user": _NOT_EMPTY,
    "stop": _STOPS,
    "logit_bias": {
        "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
}
RULES: dict[str, dict[str, Schema]] = {
    "openai.ChatBody": {**_GENERATION, "messages": _NOT_EMPTY},
    "openai.CompletionBody": {**_GENERATION, "suffix": {"maxLength": 0}, "prompt_embeds": {"type": "null"}},
    "openai.EmbeddingBody": {"model": _NOT_EMPTY, "input": _NOT_EMPTY, "user": _NOT_EMPTY},
    "openai.TokenizeBody": {"model": _NOT_EMPTY, "messages": _NOT_EMPTY},
    "openai.DetokenizeBody": {"model": _NOT_EMPTY},
    "responses.ResponsesBody": {
        "model": _NOT_EMPTY,
        "input": _NOT_EMPTY,
        "user": _NOT_EMPTY,
        "truncation": {"enum": [None, *TRUNCATIONS]},
    },
    "responses.ReasoningOptions": {"effort": {"enum": [None, *EFFORTS]}, "summary": {"enum": [None, *SUMMARIES]}},
    "responses.TextOptions": {"verbosity": {"enum": [None, *VERBOSITIES]}},
    "anthropic.MessagesBody": {"model": _NOT_EMPTY, "messages": _NOT_EMPTY, "stop_sequences": _STOPS},
    "anthropic.CountBody": {"model": _NOT_EMPTY, "messages": _NOT_EMPTY},
    "anthropic.Message": {"role": {"enum": sorted(ROLES)}},
}
"""What the tables of rules say that a schema can say too."""


def reference(name: str) -> Schema:
    """A schema that stands under `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def request_schemas() -> dict[str, Schema]:
    """Every request body and what it is made of, by component name."""
    found: dict[str, Schema] = {}
    for family, bodies in BODIES.items():
        _, components = msgspec.json.schema_components(bodies, ref_template=f"#/components/schemas/{family}.{{name}}")
        found |= {f"{family}.{name}": schema for name, schema in components.items()}
    for name, bounds in BOUNDS.items():
        _add_bounds(found[name]["properties"], bounds)
    for name, members in RULES.items():
        for member, rule in members.items():
            found[name]["properties"][member] |= rule
    return found


def _add_bounds(properties: dict[str, Schema], bounds: Iterable[Bounds]) -> None:
    for bound in bounds:
        lowest = {"exclusiveMinimum": 0} if bound.low == SMALLEST else {"minimum": bound.low}
        properties[bound.param] |= {**lowest, "maximum": bound.high}

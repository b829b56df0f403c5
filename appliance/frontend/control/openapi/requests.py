"""Schemas of request bodies: the structs that they are read into, with the bounds that are checked behind them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.frontend.control.views import BusyThreshold
from appliance.frontend.protocols.anthropic.schema import CountBody, MessagesBody
from appliance.frontend.protocols.anthropic.validate import MESSAGES_BOUNDS
from appliance.frontend.protocols.openai.chat_schema import ChatBody
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.token_schema import DetokenizeBody, TokenizeBody
from appliance.frontend.protocols.openai.validate import (
    CHAT_BOUNDS,
    COMPLETION_BOUNDS,
    EMBEDDING_BOUNDS,
    SMALLEST,
    Bounds,
)
from appliance.frontend.protocols.responses.schema import ResponsesBody
from appliance.frontend.protocols.responses.validate import BOUNDS as RESPONSES_BOUNDS

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
    return found


def _add_bounds(properties: dict[str, Schema], bounds: Iterable[Bounds]) -> None:
    for bound in bounds:
        lowest = {"exclusiveMinimum": 0} if bound.low == SMALLEST else {"minimum": bound.low}
        properties[bound.param] |= {**lowest, "maximum": bound.high}

"""`GET /v1/models` in both shapes: OpenAI's, and Anthropic's for callers that send `anthropic-version`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from appliance.core.records import ModelRecord

OWNER = "nvidia"
"""Upstream's `owned_by`; the public shape wants some organisation there."""


def openai_model(record: ModelRecord) -> dict[str, Any]:
    """One model; `created` is when it was first registered."""
    shown: dict[str, Any] = {"id": record.name, "object": "model", "created": record.created, "owned_by": OWNER}
    if record.context_length is not None:
        shown["context_window"] = record.context_length
    return shown


def openai_model_list(records: Sequence[ModelRecord]) -> dict[str, Any]:
    """All models."""
    return {"object": "list", "data": [openai_model(record) for record in records]}


def anthropic_model(record: ModelRecord) -> dict[str, Any]:
    """One model in Anthropic's shape."""
    created = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = {"id": record.name, "display_name": record.name, "type": "model", "created_at": created}
    return shown if record.context_length is None else {**shown, "max_input_tokens": record.context_length}


def anthropic_model_list(records: Sequence[ModelRecord]) -> dict[str, Any]:
    """All models in Anthropic's shape, on one page."""
    return {
        "data": [anthropic_model(record) for record in records],
        "has_more": False,
        "first_id": records[0].name if records else None,
        "last_id": records[-1].name if records else None,
    }

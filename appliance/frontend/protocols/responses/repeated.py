"""Members of a request that its response says again, with the published defaults for those not given."""

from typing import Any

from appliance.frontend.protocols.responses.schema import ResponsesBody, TextFormat, TextOptions

DEFAULTS: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "auto",
    "store": False,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
CONSTANTS: dict[str, Any] = {"conversation": None, "frequency_penalty": 0.0, "presence_penalty": 0.0, "prompt": None}
"""Members of a response that a request here cannot set."""


def repeated_members(body: ResponsesBody) -> dict[str, Any]:
    """The members, ready to be encoded; tools and schemas are the client's own bytes."""
    members = DEFAULTS.copy()
    for name in DEFAULTS:
        if (given := getattr(body, name)) is not None:
            members[name] = given
    reasoning = body.reasoning
    members["reasoning"] = {
        "effort": None if reasoning is None else reasoning.effort,
        "summary": None if reasoning is None else reasoning.summary or reasoning.generate_summary,
    }
    members["text"] = _text(body.text)
    return members | CONSTANTS


def _text(text: TextOptions | None) -> dict[str, Any]:
    form = None if text is None else text.format
    shown: dict[str, Any] = {"format": {"type": "text"} if form is None else _format(form)}
    if text is not None and text.verbosity is not None:
        shown["verbosity"] = text.verbosity
    return shown


def _format(form: TextFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    return {
        "type": form.type,
        "name": form.name,
        "description": form.description,
        "schema": form.schema,
        "strict": bool(form.strict),
    }

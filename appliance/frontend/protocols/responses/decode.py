"""Request bytes to the internal request: read, check, translate. The only entry for bodies of `POST /v1/responses`."""

from typing import Any

from appliance.core.errors import InvalidRequest
from appliance.core.generation import GenerationRequest
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import Guided, Sampling
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.guided import ANY_OBJECT, one_constraint, read_constraints, schema_text
from appliance.frontend.protocols.openai.nvext import NO_NVEXT, nvext_members
from appliance.frontend.protocols.responses.items import read_messages
from appliance.frontend.protocols.responses.repeated import repeated_members
from appliance.frontend.protocols.responses.schema import ReasoningOptions, ResponsesBody, TextFormat
from appliance.frontend.protocols.responses.tools import plan_tools
from appliance.frontend.protocols.responses.validate import check_responses

_RESPONSES = BodyReader(ResponsesBody)
WANTS_LOGPROBS = "message.output_text.logprobs"
"""What a client names in `include` to get log-probabilities."""


def decode_responses(body: bytes, request_id: RequestId) -> GenerationRequest:
    """The request of `POST /v1/responses`. Raises `InvalidRequest` or `NotImplementedHere`."""
    asked = _RESPONSES.read(body)
    check_responses(asked)
    nvext = asked.nvext or NO_NVEXT
    tools = plan_tools(asked.tools, asked.tool_choice)
    return GenerationRequest(
        id=request_id,
        model=ModelName(asked.model),
        endpoint="responses",
        messages=read_messages(asked.instructions, asked.input),
        tools=tools.shown,
        template_args=_template_args(asked.reasoning),
        sampling=Sampling(temperature=0.0 if nvext.greed_sampling else asked.temperature, top_p=asked.top_p),
        max_tokens=asked.max_output_tokens,
        ignore_eos=bool(nvext.ignore_eos),
        guided=_guided(asked),
        logprobs=_logprobs(asked),
        stream=bool(asked.stream),
        include_usage=True,  # the last event holds the whole response, and so its usage
        tool_choice=tools.choice,
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        thinking=False if asked.reasoning is not None and asked.reasoning.effort == "none" else None,
        user=asked.user,
        repeated=repeated_members(asked),
        **nvext_members(nvext),
    )


def _template_args(reasoning: ReasoningOptions | None) -> dict[str, Any]:
    return {} if reasoning is None or reasoning.effort is None else {"reasoning_effort": reasoning.effort}


def _logprobs(asked: ResponsesBody) -> int | None:
    if asked.top_logprobs or WANTS_LOGPROBS in (asked.include or ()):
        return asked.top_logprobs or 0
    return None


def _guided(asked: ResponsesBody) -> Guided | None:
    constraints = read_constraints(asked.nvext or NO_NVEXT, "nvext.")
    by_format = _by_format(asked.text.format) if asked.text is not None and asked.text.format is not None else None
    if by_format is not None:
        constraints["text.format"] = by_format
    return one_constraint(constraints)


def _by_format(wanted: TextFormat) -> Guided | None:
    """The constraint of `text.format`. Strict or not, a schema is always kept to."""
    match wanted.type:
        case "text":
            return None
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            return Guided(json_schema=_schema(wanted))
        case other:
            raise InvalidRequest(
                f"text.format.type must be text, json_object or json_schema, not {other}", param="text.format.type"
            )


def _schema(wanted: TextFormat) -> str:
    for member, given in (("name", wanted.name), ("schema", bytes(wanted.schema))):
        if not given:
            raise InvalidRequest(f"text.format.{member} is required", param=f"text.format.{member}")
    return schema_text(wanted.schema, "text.format.schema")

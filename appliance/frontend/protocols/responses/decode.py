"""Request bytes to the internal request: read, check, translate. The only entry for bodies of `POST /v1/responses`."""

from msgspec.structs import replace

from appliance.core.errors import InvalidRequest
from appliance.core.generation import GenerationRequest
from appliance.core.identity import RequestId
from appliance.core.requests import Guided, Sampling
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.guided import ANY_OBJECT, one_constraint, read_constraints, schema_text
from appliance.frontend.protocols.openai.nvext import NO_NVEXT, with_nvext
from appliance.frontend.protocols.responses.items import read_messages
from appliance.frontend.protocols.responses.repeated import repeated_members
from appliance.frontend.protocols.responses.schema import ResponsesBody, TextFormat
from appliance.frontend.protocols.responses.tools import plan_tools
from appliance.frontend.protocols.responses.validate import BOUNDS, check_responses

_RESPONSES = BodyReader(ResponsesBody, BOUNDS)
WANTS_LOGPROBS = "message.output_text.logprobs"
"""What a client names in `include` to get log-probabilities."""


def decode_responses(body: bytes, request_id: RequestId) -> GenerationRequest:
    """The request of `POST /v1/responses`. Raises `InvalidRequest` or `NotImplementedHere`."""
    asked = _RESPONSES.read(body)
    check_responses(asked)
    nvext = asked.nvext
    tools = plan_tools(asked.tools, asked.tool_choice)
    request = GenerationRequest(
        id=request_id,
        model=asked.model,
        endpoint="responses",
        messages=read_messages(asked.instructions, asked.input),
        tools=tools.shown,
        sampling=Sampling(
            temperature=0.0 if nvext is not None and nvext.greed_sampling else asked.temperature, top_p=asked.top_p
        ),
        max_tokens=asked.max_output_tokens,
        guided=None if nvext is None and asked.text is None else _guided(asked),
        logprobs=_logprobs(asked),
        stream=asked.stream is True,
        include_usage=True,  # the last event holds the whole response, and so its usage
        tool_choice=tools.choice,
        user=asked.user,
        repeated=repeated_members(asked),
    )
    if asked.parallel_tool_calls is False:
        request = replace(request, parallel_tool_calls=False)
    if asked.reasoning is not None and asked.reasoning.effort is not None:
        request = _with_effort(request, asked.reasoning.effort)
    return request if nvext is None else with_nvext(request, nvext)


def _with_effort(request: GenerationRequest, effort: str) -> GenerationRequest:
    thinking = False if effort == "none" else None
    return replace(request, template_args={"reasoning_effort": effort}, thinking=thinking)


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

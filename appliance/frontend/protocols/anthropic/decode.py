"""Request bytes to the internal request: read, check, translate. The only entry for bodies of this protocol."""

from appliance.core.generation import GenerationRequest
from appliance.core.identity import RequestId
from appliance.core.requests import Guided, Sampling
from appliance.frontend.protocols.anthropic.conversion import template_messages, template_tools
from appliance.frontend.protocols.anthropic.schema import (
    CountBody,
    MessagesBody,
    OutputFormat,
    PromptFields,
    ToolChoice,
)
from appliance.frontend.protocols.anthropic.validate import MESSAGES_BOUNDS, check_count, check_messages
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.guided import one_constraint, read_constraints, schema_text
from appliance.frontend.protocols.openai.nvext import NO_NVEXT, with_nvext

_MESSAGES = BodyReader(MessagesBody, MESSAGES_BOUNDS)
_COUNT = BodyReader(CountBody)
_ALL_TOKENS = -1  # Anthropic's way to say so is 0
THINKING = {"enabled": True, "adaptive": True, "disabled": False, "between_tools": None}
"""What each type of `thinking` asks of the model's template; None leaves it to the template."""


def decode_messages(body: bytes, request_id: RequestId, *, strip_preamble: bool = False) -> GenerationRequest:
    """The request of `POST /v1/messages`. Raises `InvalidRequest`."""
    wanted = _MESSAGES.read(body)
    check_messages(wanted)
    nvext = wanted.nvext
    request = GenerationRequest(
        id=request_id,
        model=wanted.model,
        endpoint="anthropic_messages",
        messages=template_messages(wanted, strip_preamble=strip_preamble),
        tools=template_tools(wanted),
        sampling=Sampling(
            temperature=0.0 if nvext is not None and nvext.greed_sampling else wanted.temperature,
            top_p=wanted.top_p,
            top_k=_ALL_TOKENS if wanted.top_k == 0 else wanted.top_k,
        ),
        max_tokens=wanted.max_tokens,
        stop=tuple(wanted.stop_sequences or ()),
        guided=_guided(wanted),
        stream=wanted.stream is True,
        include_usage=True,
        tool_choice=_tool_choice(wanted.tool_choice),
        parallel_tool_calls=not (wanted.tool_choice and wanted.tool_choice.disable_parallel_tool_use),
        thinking=_thinking(wanted),
        user=wanted.metadata.user_id if wanted.metadata else None,
    )
    return request if nvext is None else with_nvext(request, nvext)


def decode_count(body: bytes, request_id: RequestId, *, strip_preamble: bool = False) -> GenerationRequest:
    """The request whose prompt `POST /v1/messages/count_tokens` asks about. Raises `InvalidRequest`."""
    wanted = _COUNT.read(body)
    check_count(wanted)
    return GenerationRequest(
        id=request_id,
        model=wanted.model,
        endpoint="anthropic_messages",
        messages=template_messages(wanted, strip_preamble=strip_preamble),
        tools=template_tools(wanted),
        tool_choice=_tool_choice(wanted.tool_choice),
        thinking=_thinking(wanted),
    )


def _thinking(body: PromptFields) -> bool | None:
    return THINKING[body.thinking.type] if body.thinking else None


def _tool_choice(choice: ToolChoice | None) -> str:
    if choice is None:
        return "auto"
    return {"any": "required", "tool": f"function:{choice.name}"}.get(choice.type, choice.type)


def _guided(body: MessagesBody) -> Guided | None:
    by_config = body.output_config.format if body.output_config else None
    asked = read_constraints(body.nvext or NO_NVEXT, "nvext.")
    if by_config is not None:
        asked["output_config.format"] = _by_schema(by_config, "output_config.format.schema")
    if body.output_format is not None:
        asked["output_format"] = _by_schema(body.output_format, "output_format.schema")
    return one_constraint(asked)


def _by_schema(wanted: OutputFormat, param: str) -> Guided:
    return Guided(json_schema=schema_text(wanted.schema, param))

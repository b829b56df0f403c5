"""Bodies of `/v1/tokenize` and `/v1/detokenize` to what they ask for."""

from appliance.core.errors import InvalidRequest
from appliance.core.generation import GenerationRequest
from appliance.core.identity import ModelName, RequestId
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.chat_schema import ChatBody
from appliance.frontend.protocols.openai.messages import template_messages, template_tools
from appliance.frontend.protocols.openai.token_schema import DetokenizeBody, TokenizeBody

_TOKENIZE = BodyReader(TokenizeBody)
_DETOKENIZE = BodyReader(DetokenizeBody)
_CHAT_ONLY = ("tools", "chat_template_kwargs", "add_generation_prompt")


def read_tokenize(body: bytes) -> TokenizeBody:
    """The checked body. Raises `InvalidRequest`."""
    asked = _TOKENIZE.read(body)
    _check_model(asked.model)
    if (asked.prompt is None) == (asked.messages is None):
        raise InvalidRequest("exactly one of prompt and messages is required", param="prompt")
    if asked.messages is not None and not asked.messages:
        raise InvalidRequest("messages must hold at least one message", param="messages")
    for name in _CHAT_ONLY:
        if asked.prompt is not None and getattr(asked, name) is not None:
            raise InvalidRequest(f"{name} needs messages", param=name)
    return asked


def read_detokenize(body: bytes) -> DetokenizeBody:
    """The checked body. Raises `InvalidRequest`."""
    asked = _DETOKENIZE.read(body)
    _check_model(asked.model)
    return asked


def conversation(asked: TokenizeBody, request_id: RequestId) -> GenerationRequest:
    """The chat request whose prompt is asked for. Raises `InvalidRequest` for messages that are wrong."""
    chat = ChatBody(model=asked.model, messages=asked.messages or [], tools=asked.tools)
    arguments = dict(asked.chat_template_kwargs or {})
    if asked.add_generation_prompt is not None:
        arguments["add_generation_prompt"] = asked.add_generation_prompt
    return GenerationRequest(
        id=request_id,
        model=ModelName(asked.model),
        endpoint="chat_completions",
        messages=template_messages(chat),
        tools=template_tools(chat),
        template_args=arguments,
    )


def _check_model(name: str) -> None:
    if not name:
        raise InvalidRequest("model must not be empty", param="model")

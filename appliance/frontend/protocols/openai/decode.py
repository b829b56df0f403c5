"""Request bytes to the internal request: read, check, translate. The only entry for bodies of the OpenAI family.

A request is made of what many bodies have and completed for the others. A call may not have more than 15 members:
Python passes more of them as a dict, which costs as much as decoding a short body.
"""

from typing import Any

import msgspec

from appliance.core.generation import EmbeddingRequest, GenerationRequest
from appliance.core.identity import RequestId
from appliance.core.requests import Sampling
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.chat_schema import ChatBody
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.extensions import GenerationFields
from appliance.frontend.protocols.openai.guided import read_guided
from appliance.frontend.protocols.openai.messages import template_messages, template_tools, tool_choice
from appliance.frontend.protocols.openai.nvext import NO_NVEXT, pins_of, with_nvext
from appliance.frontend.protocols.openai.validate import (
    CHAT_BOUNDS,
    COMPLETION_BOUNDS,
    EMBEDDING_BOUNDS,
    check_chat,
    check_completion,
    check_embedding,
)

_CHAT = BodyReader(ChatBody, CHAT_BOUNDS)
_COMPLETION = BodyReader(CompletionBody, COMPLETION_BOUNDS)
_EMBEDDING = BodyReader(EmbeddingBody, EMBEDDING_BOUNDS)


def decode_chat(body: bytes, request_id: RequestId) -> GenerationRequest:
    """The request of `POST /v1/chat/completions`. Raises `InvalidRequest` or `NotImplementedHere`."""
    chat = _CHAT.read(body)
    check_chat(chat)
    request = GenerationRequest(
        id=request_id,
        model=chat.model,
        endpoint="chat_completions",
        messages=template_messages(chat),
        tools=None if chat.tools is None and chat.functions is None else template_tools(chat),
        tool_choice="auto" if chat.tool_choice is None and chat.function_call is None else tool_choice(chat),
        sampling=_sampling(chat),
        n=chat.n or 1,
        max_tokens=chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens,
        stop=() if chat.stop is None else _stop_strings(chat.stop),
        guided=read_guided(chat, chat.response_format),
        logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        stream=chat.stream is True,
        include_usage=chat.stream_options is not None and chat.stream_options.include_usage is True,
        user=chat.user,
    )
    request = _with_rare(request, chat, _rare_in_chat(chat))
    return request if chat.nvext is None else with_nvext(request, chat.nvext)


def decode_completion(body: bytes, request_id: RequestId) -> GenerationRequest:
    """The request of `POST /v1/completions`. Raises `InvalidRequest` or `NotImplementedHere`."""
    completion = _COMPLETION.read(body)
    check_completion(completion)
    stop = completion.stop
    request = GenerationRequest(
        id=request_id,
        model=completion.model,
        endpoint="completions",
        prompts=_inputs(completion.prompt),
        sampling=_sampling(completion),
        n=completion.n or 1,
        max_tokens=completion.max_tokens,
        stop=() if stop is None else _stop_strings(stop),
        stop_token_ids=tuple(s for s in stop if isinstance(s, int)) if isinstance(stop, list) else (),
        guided=read_guided(completion),
        logprobs=completion.logprobs,
        echo=completion.echo is True,
        stream=completion.stream is True,
        include_usage=completion.stream_options is not None and completion.stream_options.include_usage is True,
        user=completion.user,
    )
    request = _with_rare(request, completion, {})
    return request if completion.nvext is None else with_nvext(request, completion.nvext)


def decode_embedding(body: bytes, request_id: RequestId) -> EmbeddingRequest:
    """The request of `POST /v1/embeddings`. Raises `InvalidRequest`."""
    embedding = _EMBEDDING.read(body)
    check_embedding(embedding)
    return EmbeddingRequest(
        id=request_id,
        model=embedding.model,
        inputs=_inputs(embedding.input),
        base64=embedding.encoding_format == "base64",
        dimensions=embedding.dimensions,
        pins=pins_of(embedding.nvext or NO_NVEXT),
    )


def _with_rare(request: GenerationRequest, body: GenerationFields, rare: dict[str, Any]) -> GenerationRequest:
    """The request with what few bodies ask for: `rare`, and members that chats and completions have in common."""
    if request.include_usage and body.stream_options is not None and body.stream_options.continuous_usage_stats:
        rare["continuous_usage"] = True
    if body.min_tokens:
        rare["min_tokens"] = body.min_tokens
    if body.include_stop_str_in_output:
        rare["include_stop"] = True
    if body.ignore_eos:
        rare["ignore_eos"] = True
    if body.skip_special_tokens is False:
        rare["skip_special_tokens"] = False
    if body.return_tokens_as_token_ids:
        rare["tokens_as_ids"] = True
    return msgspec.structs.replace(request, **rare) if rare else request


def _sampling(body: GenerationFields) -> Sampling:
    return Sampling(
        temperature=0.0 if body.nvext is not None and body.nvext.greed_sampling else body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=body.seed,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=body.logit_bias or None,
    )


def _rare_in_chat(chat: ChatBody) -> dict[str, Any]:
    rare: dict[str, Any] = {}
    if chat.parallel_tool_calls is False:
        rare["parallel_tool_calls"] = False
    if chat.chat_template_args or chat.chat_template_kwargs or chat.reasoning_effort is not None:
        rare["template_args"] = _template_args(chat)
    if chat.reasoning_effort == "none":
        rare["thinking"] = False
    return rare


def _template_args(chat: ChatBody) -> dict[str, Any]:
    args = {**(chat.chat_template_args or {}), **(chat.chat_template_kwargs or {})}
    if chat.reasoning_effort is not None:
        args.setdefault("reasoning_effort", chat.reasoning_effort)
    return args


def _stop_strings(stop: str | list[Any]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(s for s in stop if isinstance(s, str))


def _inputs(inputs: Any) -> list[str | list[int]]:
    """One text or token list per entry; a flat list of token ids is one entry."""
    if isinstance(inputs, str) or isinstance(inputs[0], int):
        return [inputs]
    return list(inputs)

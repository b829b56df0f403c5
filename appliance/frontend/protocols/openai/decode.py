"""Request bytes to the internal request: read, check, translate. The only entry for bodies of the OpenAI family."""

from typing import Any

from appliance.core.generation import EmbeddingRequest, GenerationRequest
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import Sampling
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.chat_schema import ChatBody
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.extensions import GenerationFields, StreamOptions
from appliance.frontend.protocols.openai.guided import read_guided
from appliance.frontend.protocols.openai.messages import template_messages, template_tools, tool_choice
from appliance.frontend.protocols.openai.nvext import NO_NVEXT, Nvext, nvext_members, pins_of
from appliance.frontend.protocols.openai.validate import check_chat, check_completion, check_embedding

_CHAT = BodyReader(ChatBody)
_COMPLETION = BodyReader(CompletionBody)
_EMBEDDING = BodyReader(EmbeddingBody)
_NO_OPTIONS = StreamOptions()


def decode_chat(body: bytes, request_id: RequestId) -> GenerationRequest:
    """The request of `POST /v1/chat/completions`. Raises `InvalidRequest` or `NotImplementedHere`."""
    chat = _CHAT.read(body)
    check_chat(chat)
    max_tokens = chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens
    return GenerationRequest(
        id=request_id,
        endpoint="chat_completions",
        messages=template_messages(chat),
        tools=template_tools(chat),
        tool_choice=tool_choice(chat),
        parallel_tool_calls=chat.parallel_tool_calls is not False,
        thinking=False if chat.reasoning_effort == "none" else None,
        template_args=_template_args(chat),
        max_tokens=max_tokens,
        stop=_stop_strings(chat.stop),
        logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        **_shared(chat),
    )


def decode_completion(body: bytes, request_id: RequestId) -> GenerationRequest:
    """The request of `POST /v1/completions`. Raises `InvalidRequest` or `NotImplementedHere`."""
    completion = _COMPLETION.read(body)
    check_completion(completion)
    stop = completion.stop
    return GenerationRequest(
        id=request_id,
        endpoint="completions",
        prompts=_inputs(completion.prompt),
        max_tokens=completion.max_tokens,
        stop=_stop_strings(stop),
        stop_token_ids=tuple(s for s in stop if isinstance(s, int)) if isinstance(stop, list) else (),
        logprobs=completion.logprobs,
        echo=bool(completion.echo),
        **_shared(completion),
    )


def decode_embedding(body: bytes, request_id: RequestId) -> EmbeddingRequest:
    """The request of `POST /v1/embeddings`. Raises `InvalidRequest`."""
    embedding = _EMBEDDING.read(body)
    check_embedding(embedding)
    return EmbeddingRequest(
        id=request_id,
        model=ModelName(embedding.model),
        inputs=_inputs(embedding.input),
        base64=embedding.encoding_format == "base64",
        dimensions=embedding.dimensions,
        pins=pins_of(embedding.nvext or NO_NVEXT),
    )


def _shared(body: GenerationFields) -> dict[str, Any]:
    """Members of the internal request that chat and completions fill in the same way."""
    nvext = body.nvext or NO_NVEXT
    options = body.stream_options or _NO_OPTIONS
    return {
        "model": ModelName(body.model),
        "sampling": _sampling(body, nvext),
        "n": body.n or 1,
        "min_tokens": body.min_tokens or 0,
        "include_stop": bool(body.include_stop_str_in_output),
        "ignore_eos": bool(body.ignore_eos or nvext.ignore_eos),
        "skip_special_tokens": body.skip_special_tokens is not False,
        "guided": read_guided(body),
        "tokens_as_ids": bool(body.return_tokens_as_token_ids),
        "stream": bool(body.stream),
        "include_usage": bool(options.include_usage),
        "continuous_usage": bool(options.include_usage and options.continuous_usage_stats),
        "user": body.user,
        **nvext_members(nvext),
    }


def _sampling(body: GenerationFields, nvext: Nvext) -> Sampling:
    return Sampling(
        temperature=0.0 if nvext.greed_sampling else body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=body.seed,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=body.logit_bias or None,
    )


def _template_args(chat: ChatBody) -> dict[str, Any]:
    args = {**(chat.chat_template_args or {}), **(chat.chat_template_kwargs or {})}
    if chat.reasoning_effort is not None:
        args.setdefault("reasoning_effort", chat.reasoning_effort)
    return args


def _stop_strings(stop: Any) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(s for s in stop if isinstance(s, str))


def _inputs(inputs: Any) -> list[str | list[int]]:
    """One text or token list per entry; a flat list of token ids is one entry."""
    if isinstance(inputs, str) or isinstance(inputs[0], int):
        return [inputs]
    return list(inputs)

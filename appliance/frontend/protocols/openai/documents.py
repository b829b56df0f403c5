"""Whole response bodies: chat completions, completions, embeddings, and the parts that stream chunks share."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.core.identity import ModelName
from appliance.core.output import ReasoningPart, ToolCallPart
from appliance.frontend.streams.outcome import ChoiceOutcome, Members, TokenChoice, TokenDetail, Usage

encode = msgspec.json.Encoder().encode


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` in OpenAI's shape."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def tool_call(call: ToolCallPart) -> dict[str, Any]:
    """One call in OpenAI's shape."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def chat_logprobs(details: Sequence[TokenDetail]) -> dict[str, Any]:
    """A chat choice's `logprobs`."""
    return {
        "content": [
            {**_chat_token(detail), "top_logprobs": [_chat_token(other) for other in detail.top_logprobs]}
            for detail in details
        ],
        "refusal": None,
    }


def _chat_token(token: TokenDetail | TokenChoice) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": token.bytes}


def completion_logprobs(details: Sequence[TokenDetail]) -> dict[str, Any]:
    """A completion choice's `logprobs`: parallel lists; the chosen token is always among the alternatives."""
    return {
        "tokens": [d.token for d in details],
        "token_logprobs": [d.logprob for d in details],
        "top_logprobs": [{t.token: t.logprob for t in d.top_logprobs} | {d.token: d.logprob} for d in details],
        "text_offset": [d.offset for d in details],
    }


def chat_document(
    head: dict[str, Any], choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None = None
) -> bytes:
    """The body of an unstreamed chat completion. `head` holds id, object, created, model and constants."""
    return _document(head, [_chat_choice(choice) for choice in choices], usage, nvext)


def completion_document(
    head: dict[str, Any], choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None = None
) -> bytes:
    """The body of an unstreamed completion."""
    return _document(head, [_completion_choice(choice) for choice in choices], usage, nvext)


def _document(head: dict[str, Any], choices: list[dict[str, Any]], usage: Usage, nvext: Members | None) -> bytes:
    document = {**head, "choices": choices, "usage": usage_object(usage)}
    if nvext:
        document["nvext"] = nvext
    return encode(document)


def _chat_choice(choice: ChoiceOutcome) -> dict[str, Any]:
    return {
        "index": choice.index,
        "message": _chat_message(choice),
        "logprobs": None if choice.details is None else chat_logprobs(choice.details),
        "finish_reason": choice.finish,
    }


def _chat_message(choice: ChoiceOutcome) -> dict[str, Any]:
    """The message; its content is null when there is only something else."""
    reasoning = "".join(part.text for part in choice.parts if isinstance(part, ReasoningPart))
    calls = [tool_call(part) for part in choice.parts if isinstance(part, ToolCallPart)]
    content = None if (reasoning or calls) and not choice.text else choice.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _completion_choice(choice: ChoiceOutcome) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": choice.text,
        "logprobs": None if choice.details is None else completion_logprobs(choice.details),
        "finish_reason": choice.finish,
    }


def embedding_document(
    model: ModelName, vectors: Sequence[Sequence[float]], prompt_tokens: int, *, base64_vectors: bool = False
) -> bytes:
    """The body of an embeddings answer; as base64, a vector is little-endian float32."""
    data = [
        {"object": "embedding", "index": index, "embedding": _pack(vector) if base64_vectors else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return encode({"object": "list", "data": data, "model": model, "usage": usage})


def _pack(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

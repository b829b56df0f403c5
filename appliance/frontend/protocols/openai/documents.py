"""Objects of response bodies: chat completions, completions, embeddings, and the parts that stream chunks share."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.core.identity import ModelName
from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, TokenChoice, TokenDetail, Usage

encode = msgspec.json.Encoder().encode


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.prompt_tokens_details`."""

    cached_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.completion_tokens_details`."""

    reasoning_tokens: int


class UsageObject(msgspec.Struct, frozen=True, gc=False):
    """`usage` in OpenAI's shape."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Message(msgspec.Struct, frozen=True, gc=False):
    """A chat choice's message."""

    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True, gc=False):
    """A choice of a whole chat completion."""

    index: int
    message: Message
    logprobs: dict[str, Any] | None
    finish_reason: Finish


class CompletionChoice(msgspec.Struct, frozen=True, gc=False):
    """A choice of a whole completion."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Finish


class ChatHead(msgspec.Struct, frozen=True, gc=False):
    """What stands in front of the choices in each chunk of a streamed chat completion."""

    id: str
    object: str
    created: int
    model: ModelName
    service_tier: None = None
    system_fingerprint: None = None


class ChatDocument(ChatHead, frozen=True, gc=False, kw_only=True):
    """A whole chat completion, or a chunk that has the usage only."""

    choices: list[ChatChoice]
    usage: UsageObject
    nvext: Members | msgspec.UnsetType = msgspec.UNSET


class CompletionHead(msgspec.Struct, frozen=True, gc=False):
    """What stands in front of the choices in each chunk of a streamed completion."""

    id: str
    object: str
    created: int
    model: ModelName
    system_fingerprint: None = None


class CompletionDocument(CompletionHead, frozen=True, gc=False, kw_only=True):
    """A whole completion, or a chunk that has the usage only."""

    choices: list[CompletionChoice]
    usage: UsageObject
    nvext: Members | msgspec.UnsetType = msgspec.UNSET


def usage_object(usage: Usage) -> UsageObject:
    """`usage` in OpenAI's shape."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    cached, reasoning = PromptDetails(usage.cached_tokens), CompletionDetails(usage.reasoning_tokens)
    return UsageObject(prompt, completion, prompt + completion, cached, reasoning)


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


def chat_choices(choices: Sequence[ChoiceOutcome]) -> list[ChatChoice]:
    """The choices of a whole chat completion."""
    shown = []
    for choice in choices:
        details, parts = choice.details, choice.parts
        logprobs = None if details is None else chat_logprobs(details)
        only_text = not parts or (len(parts) == 1 and type(parts[0]) is TextPart)
        message = Message("assistant", choice.text) if only_text else _mixed_message(choice.text, parts)
        shown.append(ChatChoice(choice.index, message, logprobs, choice.finish))
    return shown


def _mixed_message(text: str, parts: Sequence[OutputPart]) -> Message:
    """A message of parts of several kinds; its content is null when there is only something else than text."""
    reasoning = "".join([part.text for part in parts if isinstance(part, ReasoningPart)])
    calls = [tool_call(part) for part in parts if isinstance(part, ToolCallPart)]
    return Message(
        "assistant",
        None if (reasoning or calls) and not text else text,
        reasoning_content=reasoning or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )


def completion_choices(choices: Sequence[ChoiceOutcome]) -> list[CompletionChoice]:
    """The choices of a whole completion."""
    shown = []
    for choice in choices:
        details = choice.details
        logprobs = None if details is None else completion_logprobs(details)
        shown.append(CompletionChoice(choice.index, choice.text, logprobs, choice.finish))
    return shown


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

"""The answer of `POST /v1/messages/count_tokens`, and the estimate for a model that cannot be asked."""

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.core.generation import GenerationRequest

CHARACTERS_PER_TOKEN = 3
"""A cautious average; Dynamo estimates with the same number."""


def count_document(input_tokens: int) -> bytes:
    """The body that tells a count."""
    return msgspec.json.encode({"input_tokens": input_tokens})


def estimate_tokens(request: GenerationRequest) -> int:
    """About how many tokens the prompt has, from the length of everything that goes into it."""
    characters = sum(len(text) for text in _texts(request))
    return characters // CHARACTERS_PER_TOKEN


def _texts(request: GenerationRequest) -> Iterator[str]:
    for message in request.messages or ():
        yield message["role"]
        yield from _content_texts(message["content"])
        reasoning = message.get("reasoning_content", "")
        yield from (reasoning,) if isinstance(reasoning, str) else reasoning
        for call in message.get("tool_calls", ()):
            yield call["function"]["name"]
            yield _compact(call["function"]["arguments"])
    for tool in request.tools or ():
        function = tool["function"]
        yield function["name"]
        yield function.get("description", "")
        yield _compact(function["parameters"])


def _content_texts(content: str | list[dict[str, str]]) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (part["text"] for part in content)


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""Chat messages in the shapes that templates want them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]


def flatten_all(messages: Sequence[Message]) -> list[Message]:
    """Messages whose contents are one text each; those that are so already stay what they are."""
    return [message if type(message.get("content")) is str else flatten_parts(message) for message in messages]


def flatten_parts(message: Message) -> Message:
    """A message whose content is one text: the text parts, joined by line ends; a missing content becomes empty."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    return {**message, "content": "" if content is None else content}


def split_all(messages: Sequence[Message]) -> list[Message]:
    """Messages whose contents are lists of parts, for templates that know nothing else."""
    return [_split_into_parts(message) for message in messages]


def _split_into_parts(message: Message) -> Message:
    content = message.get("content")
    if isinstance(content, list):
        return message
    return {**message, "content": [{"type": "text", "text": content}] if content else []}


def open_arguments(message: Message) -> Message:
    """A message whose tool-call arguments are objects: clients send JSON text, but templates do the printing."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return message
    return {**message, "tool_calls": [_open_call(call) for call in calls]}


def _open_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call  # a model can write anything; the template shows the text as it is
    return {**call, "function": {**function, "arguments": arguments}}


def plain_prompt(messages: list[Message]) -> str:
    """A prompt for models without a template: each role in front of its text, the assistant's turn left open."""
    turns = [f"{message.get('role', 'user')}: {flatten_parts(message)['content']}\n" for message in messages]
    return "".join([*turns, "assistant:"])


def raw_prompt(messages: list[Message]) -> str:
    """All contents as they are, one after the other."""
    return "".join(flatten_parts(message)["content"] for message in messages)

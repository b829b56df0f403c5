"""Input items to messages as templates want them: what the model said between two other turns becomes one turn."""

from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.frontend.protocols.responses.raw_members import read_member
from appliance.frontend.protocols.responses.schema import (
    CallItem,
    CallOutputItem,
    ContentPart,
    ItemKind,
    MessageItem,
    ReasoningItem,
)
from appliance.frontend.protocols.responses.turn import AssistantTurn, Turn

ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


def read_messages(instructions: str | None, given: str | Sequence[msgspec.Raw]) -> list[Turn]:
    """The whole conversation, `instructions` first.

    Raises `InvalidRequest` for items that are wrong or not text, `NotImplementedHere` for those that need a store.
    """
    messages: list[Turn] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    conversation = _Conversation(messages)
    for index, raw in enumerate(given):
        conversation.add(raw, f"input[{index}]")
    return conversation.finish()


class _Conversation:
    """Messages made so far, and the assistant's turn that the next item may go on with."""

    def __init__(self, messages: list[Turn]) -> None:
        self._messages = messages
        self._turn = AssistantTurn()

    def add(self, raw: msgspec.Raw, at: str) -> None:
        """Take the next item; `at` is its path."""
        kind = read_member(raw, ItemKind, at)
        match kind.type or _kind_without_type(kind):
            case "message":
                self._add_message(read_member(raw, MessageItem, at), at)
            case "reasoning":
                self._add_reasoning(read_member(raw, ReasoningItem, at), at)
            case "function_call":
                self._turn.add_call(_call(read_member(raw, CallItem, at)))
            case "function_call_output":
                self._add_output(read_member(raw, CallOutputItem, at), at)
            case "item_reference":
                raise NotImplementedHere(f"{at}: this server stores no items that could be referred to", param=at)
            case other:
                raise InvalidRequest(
                    f"{at}.type: items of type {other!r} are not supported; allowed are message, reasoning, "
                    "function_call, function_call_output",
                    param=f"{at}.type",
                )

    def finish(self) -> list[Turn]:
        """All messages."""
        self._messages += self._turn.take()
        return self._messages

    def _add_message(self, item: MessageItem, at: str) -> None:
        if item.role not in ROLES:
            raise InvalidRequest(f"{at}.role must be one of {', '.join(ROLES)}", param=f"{at}.role")
        content = _content(item.content, f"{at}.content")
        if item.role == "assistant":
            text = content if isinstance(content, str) else "".join(part["text"] for part in content)
            self._messages += self._turn.add_text(text)
            return
        self._messages += [*self._turn.take(), {"role": item.role, "content": content}]

    def _add_reasoning(self, item: ReasoningItem, at: str) -> None:
        if item.content:
            text = "".join(_texts(item.content, f"{at}.content"))
        else:
            text = "\n".join(_texts(item.summary or [], f"{at}.summary"))
        self._messages += self._turn.add_reasoning(text)

    def _add_output(self, item: CallOutputItem, at: str) -> None:
        content = _content(item.output, f"{at}.output")
        self._messages += [*self._turn.take(), {"role": "tool", "tool_call_id": item.call_id, "content": content}]


def _kind_without_type(kind: ItemKind) -> str | None:
    if kind.role is not None:
        return "message"
    return None if kind.id is None else "item_reference"


def _content(content: str | list[ContentPart], at: str) -> Any:
    """A text, or text parts when there are several."""
    if isinstance(content, str):
        return content
    texts = _texts(content, at)
    return "".join(texts) if len(texts) < 2 else [{"type": "text", "text": text} for text in texts]


def _texts(parts: list[ContentPart], at: str) -> list[str]:
    return [_text(part, f"{at}[{index}]") for index, part in enumerate(parts)]


def _text(part: ContentPart, at: str) -> str:
    if part.type != "refusal" and part.type not in TEXT_PARTS:
        raise InvalidRequest(f"{at}: this model takes text only, not {part.type}", param=at)
    name = "refusal" if part.type == "refusal" else "text"
    text: str | None = getattr(part, name)
    if text is None:
        raise InvalidRequest(f"{at}.{name} is required", param=f"{at}.{name}")
    return text


def _call(item: CallItem) -> dict[str, Any]:
    return {"type": "function", "id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}

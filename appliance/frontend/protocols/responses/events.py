"""Events of a streamed response: items that are opened, filled and closed one after the other, all numbered.

The event of more text is put together from pieces of JSON text, because it comes once per token.
"""

from collections.abc import Sequence
from typing import Any

from appliance.core.output import ReasoningPart, TextPart, ToolCallPart
from appliance.frontend.protocols.responses.document import (
    Item,
    ResponseHead,
    call_item,
    encode,
    logprob_list,
    message_item,
    reasoning_item,
    text_part,
)
from appliance.frontend.streams.outcome import Finish, Members, TokenDetail, Usage

TEXT_START = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","logprobs":%b,"sequence_number":'
)
PLAIN_TEXT_START = TEXT_START % b"[]"


OPENING_EVENTS = 2
"""Events in front of the first item. They are made after the first item's, when the stream starts, so they have
numbers of their own."""


class Numbering:
    """Counts the events of one stream."""

    __slots__ = ("_next",)

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self) -> int:
        """The number of the next event."""
        number = self._next
        self._next = number + 1
        return number

    def event(self, name: str, members: dict[str, Any]) -> bytes:
        """The next event."""
        data = encode({"type": name, "sequence_number": self.take(), **members})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


class ItemFrames:
    """The `ChoiceFrames` of the one choice. At most one item is open: of text or of reasoning, calls come whole."""

    def __init__(self, head: ResponseHead, numbering: Numbering) -> None:
        self.items: list[Item] = []
        """Items that are closed, as the response repeats them."""
        self.finish: Finish | None = None
        self.nvext: Members = {}
        """What events gave, for the response at the end: token ids of all events, the last of anything else."""
        self._head = head
        self._numbering = numbering
        self._open: type[TextPart] | type[ReasoningPart] | None = None
        self._id = ""
        self._place: dict[str, Any] = {}
        self._text_place = b""
        self._texts: list[str] = []
        self._details: list[TokenDetail] = []

    def text(self, text: str) -> bytes:
        """See `ChoiceFrames`."""
        if self._open is not TextPart:
            return self._open_text() + self.text(text)
        self._texts.append(text)
        return PLAIN_TEXT_START + b"%d" % self._numbering.take() + self._text_place + encode(text) + b"}\n\n"

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        """See `ChoiceFrames`."""
        if isinstance(part, ToolCallPart):
            return self.end_item("completed") + self._call(part)
        opened = b"" if self._open is ReasoningPart else self._open_reasoning()
        self._texts.append(part.text)
        return opened + self._event("response.reasoning_summary_text.delta", summary_index=0, delta=part.text)

    def event(
        self,
        text: str,
        *,
        finish: Finish | None = None,
        stop_string: str | None = None,
        details: Sequence[TokenDetail] | None = None,
        usage: Usage | None = None,
        nvext: Members | None = None,
    ) -> bytes:
        """See `ChoiceFrames`. What ends the choice is told by the response's own last event."""
        self.finish = finish or self.finish
        self._keep(nvext or {})
        if not text and not (details and self._open is TextPart):
            return b""
        opened = b"" if self._open is TextPart else self._open_text()
        self._texts.append(text)
        self._details += details or ()
        start = opened + TEXT_START % encode(logprob_list(details or ()))
        return start + b"%d" % self._numbering.take() + self._text_place + encode(text) + b"}\n\n"

    def end_output(self, status: str) -> bytes:
        """Close the last item; an answer without any gets a message without text, because clients look for one."""
        opened = self._open_text() if self._open is None and not self.items else b""
        return opened + self.end_item(status)

    def end_item(self, status: str) -> bytes:
        """Close the open item, if one is open."""
        kind, self._open = self._open, None
        if kind is None:
            return b""
        text, self._texts = "".join(self._texts), []
        return self._end_text(text, status) if kind is TextPart else self._end_reasoning(text, status)

    def _open_text(self) -> bytes:
        ended = self._begin(TextPart)
        self._text_place = b',%b,"delta":' % encode(self._place | {"content_index": 0})[1:-1]
        self._details = []
        item = message_item(self._id, "in_progress", [])
        added = self._numbering.event("response.output_item.added", self._item_members(item))
        return ended + added + self._event("response.content_part.added", content_index=0, part=text_part(""))

    def _end_text(self, text: str, status: str) -> bytes:
        part = text_part(text, self._details)
        done = self._event("response.output_text.done", content_index=0, text=text, logprobs=part["logprobs"])
        done += self._event("response.content_part.done", content_index=0, part=part)
        return done + self._item_done(message_item(self._id, status, [part]))

    def _open_reasoning(self) -> bytes:
        ended = self._begin(ReasoningPart)
        item = reasoning_item(self._id, "in_progress", "")
        added = self._numbering.event("response.output_item.added", self._item_members(item))
        part = {"type": "summary_text", "text": ""}
        return ended + added + self._event("response.reasoning_summary_part.added", summary_index=0, part=part)

    def _end_reasoning(self, text: str, status: str) -> bytes:
        part = {"type": "summary_text", "text": text}
        done = self._event("response.reasoning_summary_text.done", summary_index=0, text=text)
        done += self._event("response.reasoning_summary_part.done", summary_index=0, part=part)
        return done + self._item_done(reasoning_item(self._id, status, text))

    def _call(self, call: ToolCallPart) -> bytes:
        self._place_item(ToolCallPart)
        begun = call_item(self._id, "in_progress", call, "")
        events = self._numbering.event("response.output_item.added", self._item_members(begun))
        events += self._event("response.function_call_arguments.delta", delta=call.arguments)
        events += self._event("response.function_call_arguments.done", name=call.name, arguments=call.arguments)
        return events + self._item_done(call_item(self._id, "completed", call, call.arguments))

    def _begin(self, kind: type[TextPart] | type[ReasoningPart]) -> bytes:
        """Close what is open, and make place for an item that stays open."""
        ended = self.end_item("completed")
        self._place_item(kind)
        self._open = kind
        return ended

    def _place_item(self, kind: type[TextPart] | type[ReasoningPart] | type[ToolCallPart]) -> None:
        index = len(self.items)
        self._id = self._head.item_id(kind, index)
        self._place = {"item_id": self._id, "output_index": index}

    def _item_done(self, item: Item) -> bytes:
        members = self._item_members(item)
        self.items.append(item)
        return self._numbering.event("response.output_item.done", members)

    def _item_members(self, item: Item) -> dict[str, Any]:
        return {"output_index": len(self.items), "item": item}

    def _event(self, name: str, /, **members: object) -> bytes:
        """An event about the item that was begun last."""
        return self._numbering.event(name, self._place | members)

    def _keep(self, nvext: Members) -> None:
        for name, value in nvext.items():
            self.nvext[name] = self.nvext.get(name, []) + value if name == "token_ids" else value

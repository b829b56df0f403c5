"""Events of a streamed message. Which block is open is kept here; a block of another kind closes it."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from appliance.core.output import ReasoningPart, ToolCallPart
from appliance.frontend.streams.outcome import Finish, Members, TokenDetail, Usage

SIGNATURE = "erased"
"""Stands where Anthropic signs its models' thinking. Clients send it back, and drop blocks without any."""

encode = msgspec.json.Encoder().encode
BlockKind = Literal["text", "thinking"]
EMPTY_BLOCKS: dict[BlockKind, dict[str, str]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


def event(kind: str, **members: Any) -> bytes:
    """One event, named like its type."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **members}))


class MessageFrames:
    """Events of the blocks of one message; remembers how it ended."""

    __slots__ = ("_delta", "_index", "_open", "finish", "stop_string")

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.stop_string: str | None = None
        self._open: BlockKind | None = None
        self._index = 0
        self._delta = b""  # the open block's next event, up to its text

    def text(self, text: str) -> bytes:
        """See `ChoiceFrames`."""
        if self._open == "text":
            return self._delta + encode(text) + b"}}\n\n"
        return self._switch("text") + self._delta + encode(text) + b"}}\n\n"

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        """See `ChoiceFrames`. A call is a block of its own, with all arguments in one event."""
        if isinstance(part, ReasoningPart):
            return self._switch("thinking") + self._delta + encode(part.text) + b"}}\n\n"
        closed = self._close()
        block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": part.arguments}
        return (
            closed
            + event("content_block_start", index=self._index, content_block=block)
            + event("content_block_delta", index=self._index, delta=delta)
            + self._stop()
        )

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
        """See `ChoiceFrames`. An empty text makes no event; the end closes the open block."""
        shown = self.text(text) if text else b""
        if finish is None:
            return shown
        self.finish, self.stop_string = finish, stop_string
        return shown + self._close()

    def _switch(self, kind: BlockKind) -> bytes:
        """Have a block of this kind open."""
        if self._open == kind:
            return b""
        closed = self._close()
        self._open = kind
        self._delta = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%b_delta","%b":' % (self._index, kind.encode(), kind.encode())
        )
        return closed + event("content_block_start", index=self._index, content_block=EMPTY_BLOCKS[kind])

    def _close(self) -> bytes:
        """Close the open block, if one is; thinking is signed before."""
        if self._open is None:
            return b""
        signed = b""
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            signed = event("content_block_delta", index=self._index, delta=delta)
        self._open = None
        return signed + self._stop()

    def _stop(self) -> bytes:
        stopped = event("content_block_stop", index=self._index)
        self._index += 1
        return stopped

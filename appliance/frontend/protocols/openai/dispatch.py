"""Extra events of a chat stream for consumers that want whole things: each call, and each block of reasoning."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from appliance.core.output import ReasoningPart, ToolCallPart
from appliance.frontend.protocols.openai.documents import tool_call
from appliance.frontend.protocols.openai.sse import ChatFrames, data_event
from appliance.frontend.streams.outcome import Finish, Members, TokenDetail, Usage


class Dispatch(NamedTuple):
    """Which extra events a stream has."""

    tools: bool = False
    """`tool_call_dispatch`, in front of the ordinary event of the same call."""
    reasoning: bool = False
    """`reasoning_dispatch`, when a block of reasoning is over."""


NO_DISPATCH = Dispatch()


class DispatchingFrames(ChatFrames):
    """The events of one chat choice, with extra ones in front."""

    __slots__ = ("_block", "_dispatch", "_index")

    def __init__(self, stem: bytes, index: int, *, dispatch: Dispatch) -> None:
        super().__init__(stem, index)
        self._index = index
        self._dispatch = dispatch
        self._block: list[str] = []

    def text(self, text: str) -> bytes:
        """See `ChoiceFrames`."""
        return self._end_block() + super().text(text)

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        """See `ChoiceFrames`."""
        shown = super().part(part)
        if isinstance(part, ReasoningPart):
            self._block.append(part.text)
            return shown
        return self._end_block() + self._announcement(part) + shown

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
        """See `ChoiceFrames`."""
        extra = self._end_block() if text or finish else b""
        return extra + super().event(text, finish=finish, details=details, usage=usage, nvext=nvext)

    def _end_block(self) -> bytes:
        if not self._block:
            return b""
        block, self._block = "".join(self._block), []
        if not self._dispatch.reasoning:
            return b""
        return _named_event(b"reasoning_dispatch", {"index": self._index, "reasoning_content": block})

    def _announcement(self, call: ToolCallPart) -> bytes:
        if not self._dispatch.tools:
            return b""
        shown = {"index": call.index, **tool_call(call)}
        return _named_event(b"tool_call_dispatch", {"choice_index": self._index, "tool_call": shown})


def _named_event(name: bytes, value: Any) -> bytes:
    return b"event: %b\n%b" % (name, data_event(value))

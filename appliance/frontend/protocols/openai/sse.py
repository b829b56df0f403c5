"""Stream events as bytes: everything that does not change within a stream is made once.

Whole events are put together from pieces of JSON text, because encoding a chunk object per token costs ten times
as much. The pieces are made here and nowhere else.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from appliance.core.generation import GenerationRequest
from appliance.core.output import ReasoningPart, ToolCallPart
from appliance.frontend.protocols.openai.documents import chat_logprobs, completion_logprobs, tool_call, usage_object
from appliance.frontend.streams.outcome import Finish, Members, TokenDetail, Usage

DONE = b"data: [DONE]\n\n"
ROLE = b'"role":"assistant",'

encode = msgspec.json.Encoder().encode
Logprobs = Callable[[Sequence[TokenDetail]], dict[str, Any]]


def data_event(value: Any) -> bytes:
    """An ordinary event with one JSON value."""
    return b"data: %b\n\n" % encode(value)


def annotation_event(name: str, value: Any) -> bytes:
    """A side-channel event: its name, and the JSON value as a comment, which ordinary clients skip."""
    return b"event: %b\n: %b\n\n" % (name.encode(), encode(value))


def preamble(request: GenerationRequest, formatted_prompt: str, token_ids: Sequence[int]) -> bytes:
    """The annotation events that a request asks for; they go in front of a stream's first chunk."""
    values: dict[str, Callable[[], Any]] = {
        "request_id": lambda: request.id,
        "formatted_prompt": lambda: formatted_prompt,
        "token_ids": lambda: encode(token_ids).decode(),
    }
    return b"".join(annotation_event(name, make()) for name, make in values.items() if name in request.annotations)


class _Frames:
    """Pieces that the events of one choice share. `stem` is the chunk's JSON up to and without `choices`."""

    __slots__ = ("_logprobs", "_opening", "_tail")

    def __init__(self, stem: bytes, index: int, inner: bytes, tail: bytes, logprobs: Logprobs) -> None:
        self._opening = b'data: %b,"choices":[{"index":%d,%b' % (stem, index, inner)
        self._tail = tail
        self._logprobs = logprobs

    def _ending(
        self,
        finish: Finish | None,
        details: Sequence[TokenDetail] | None,
        usage: Usage | None,
        nvext: Members | None,
    ) -> bytes:
        """From behind the choice's text to the event's end."""
        return b'%b"logprobs":%b,"finish_reason":%b}],"usage":%b%b}\n\n' % (
            self._tail,
            b"null" if details is None else encode(self._logprobs(details)),
            b"null" if finish is None else encode(finish),
            b"null" if usage is None else encode(usage_object(usage)),
            b"" if not nvext else b',"nvext":' + encode(nvext),
        )


class ChatFrames(_Frames):
    """Events of one chat choice. The role comes with the first event only: clients add up what deltas hold."""

    __slots__ = ("_first", "_head", "_next_head", "_plain_end")

    def __init__(self, stem: bytes, index: int) -> None:
        super().__init__(stem, index, b'"delta":{', b"},", chat_logprobs)
        self._first = self._opening + ROLE + b'"content":'
        self._head = self._opening + b'"content":'
        self._next_head = self._first
        self._plain_end = self._ending(None, None, None, None)

    def text(self, text: str) -> bytes:
        """See `ChoiceFrames`."""
        head = self._next_head
        self._next_head = self._head
        return head + encode(text) + self._plain_end

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        """See `ChoiceFrames`. A call is one event, with its whole arguments."""
        role = ROLE if self._next_head is self._first else b""
        self._next_head = self._head
        if isinstance(part, ReasoningPart):
            return self._opening + role + b'"reasoning_content":' + encode(part.text) + self._plain_end
        call = encode({"index": part.index, **tool_call(part)})
        return b'%b%b"tool_calls":[%b]%b' % (self._opening, role, call, self._plain_end)

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
        """See `ChoiceFrames`. Without text the delta is empty, but for the role in the first event."""
        is_first = self._next_head is self._first
        body = self._next_head + encode(text) if text or is_first else self._opening
        self._next_head = self._head
        return body + self._ending(finish, details, usage, nvext)


class CompletionFrames(_Frames):
    """Events of one completion choice."""

    __slots__ = ("_plain_end",)

    def __init__(self, stem: bytes, index: int) -> None:
        super().__init__(stem, index, b'"text":', b",", completion_logprobs)
        self._plain_end = self._ending(None, None, None, None)

    def text(self, text: str) -> bytes:
        """See `ChoiceFrames`."""
        return self._opening + encode(text) + self._plain_end

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        """See `ChoiceFrames`. Completions are not parsed, so there is nothing to show."""
        return b""

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
        return self._opening + encode(text) + self._ending(finish, details, usage, nvext)

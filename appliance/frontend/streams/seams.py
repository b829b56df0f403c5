"""What streams need from others, as protocols: text from tokens, a protocol's bytes, the client's connection."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from appliance.core.errors import ApplianceError
from appliance.core.output import OutputPart, ReasoningPart, ToolCallPart
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, TokenDetail, Usage


class Detokeniser(Protocol):
    """Text of one stream, piece by piece."""

    def push(self, ids: Sequence[int]) -> str:
        """The text that these tokens complete; an unfinished character is kept back."""

    def finish(self) -> str:
        """What was kept back."""


class StopMatcher(Protocol):
    """Looks for stop strings in one stream's text."""

    def push(self, text: str) -> tuple[str, str | None]:
        """Text that may be shown now, and the stop string that ended it, if one did."""

    def finish(self) -> str:
        """What was held back because it could have become a stop string."""


class OutputParser(Protocol):
    """Splits one stream's text into text, reasoning and tool calls."""

    def push(self, text: str) -> list[OutputPart]:
        """The parts that the new text makes certain, in order."""

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """What was held back; `truncated` when a limit ended the output."""


class TextTools(msgspec.Struct, frozen=True, kw_only=True):
    """How the choices of one request get their text. The makers are called once per choice and attempt."""

    detokeniser: Callable[[], Detokeniser]
    matcher: Callable[[], StopMatcher | None] = lambda: None
    """None: no stop strings."""
    parser: Callable[[], OutputParser | None] = lambda: None
    """None: all text is the answer."""
    token_bytes: Callable[[int], bytes] = lambda token_id: b""
    """The bytes of one token; needed only when log-probabilities are asked for."""


class ChoiceFrames(Protocol):
    """Bytes of one choice's events in a streamed answer. The first call makes the choice's first event."""

    def text(self, text: str) -> bytes:
        """The event of more text and nothing else. This is the hot path."""

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        """The events of more reasoning, or of one whole call."""

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
        """Any event of text, also an empty one. `stop_string` is what ended the choice, when one did."""


class AnswerFormat(Protocol):
    """Bytes of one request's answer in one public protocol."""

    def frames(self, index: int) -> ChoiceFrames:
        """The framer of one choice."""

    def opening(self, prompt_tokens: int) -> bytes:
        """Everything in front of the first choice's first event; may be empty."""

    def ping(self) -> bytes:
        """Something that a client skips, for streams whose first token takes long; empty: the protocol has none."""

    def closing(self, usage: Usage | None) -> bytes:
        """Everything after the last choice's last event. `usage` is None when it is not to be shown."""

    def failure(self, error: ApplianceError) -> bytes:
        """The end of a stream that cannot go on."""

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """The body of an answer in one piece."""


class Routed(Protocol):
    """What an answer can say of its routing, as it is now."""

    def worker_ids(self) -> Members:
        """`nvext.worker_id`; empty while nothing is placed."""

    def timing(self, received_at: float, first_at: float | None) -> Members:
        """What routing adds to `nvext.timing`, from the times of arrival and of the first token."""


class _NotRouted:
    def worker_ids(self) -> Members:
        return {}

    def timing(self, received_at: float, first_at: float | None) -> Members:
        return {}


NOT_ROUTED = _NotRouted()
"""Of an answer that nobody routes."""


class Client(Protocol):
    """The part of `web.Exchange` that an answer uses; what each method promises is said there."""

    @property
    def pending(self) -> int: ...

    @property
    def broken(self) -> bool: ...

    def respond(self, status: int, body: bytes) -> None: ...
    def start_stream(
        self, status: int = ..., content_type: str = ..., headers: Sequence[tuple[str, str]] = ...
    ) -> None: ...
    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def end(self) -> None: ...
    async def drained(self) -> None: ...

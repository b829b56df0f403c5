"""Keeps what a streamed answer says, as the answer in one piece would say it; only for requests that are audited."""

from collections.abc import Callable, Sequence

from appliance.core.errors import ApplianceError
from appliance.core.output import OutputPart, ReasoningPart, ToolCallPart
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, TokenDetail, Usage
from appliance.frontend.streams.seams import AnswerFormat, ChoiceFrames


class TapedFormat:
    """An `AnswerFormat` that passes everything on to the real one."""

    def __init__(self, format: AnswerFormat) -> None:
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        """Of the whole answer; to be set when it has ended."""
        self._format = format
        self._choices: list[_TapedFrames] = []
        self._document: bytes | None = None
        self._closed = False

    def response(self) -> Callable[[], bytes] | None:
        """What makes the answer in one piece, in any thread; None when the answer did not come to its end."""
        if (document := self._document) is not None:
            return lambda: document
        if not self._closed:
            return None
        outcomes = [choice.outcome() for choice in self._choices]
        return lambda: self._format.document(outcomes, self.usage, None)

    def frames(self, index: int) -> ChoiceFrames:
        """See `AnswerFormat`."""
        taped = _TapedFrames(index, self._format.frames(index))
        self._choices.append(taped)
        return taped

    def opening(self, prompt_tokens: int) -> bytes:
        """See `AnswerFormat`."""
        return self._format.opening(prompt_tokens)

    def ping(self) -> bytes:
        """See `AnswerFormat`."""
        return self._format.ping()

    def closing(self, usage: Usage | None) -> bytes:
        """See `AnswerFormat`."""
        self._closed = True
        return self._format.closing(usage)

    def failure(self, error: ApplianceError) -> bytes:
        """See `AnswerFormat`."""
        return self._format.failure(error)

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """See `AnswerFormat`."""
        self._document = self._format.document(choices, usage, nvext)
        return self._document


class _TapedFrames:
    """The frames of one choice."""

    def __init__(self, index: int, frames: ChoiceFrames) -> None:
        self._index, self._frames = index, frames
        self._texts: list[str] = []
        self._parts: list[OutputPart] = []
        self._details: list[TokenDetail] | None = None
        self._finish: Finish = "stop"
        self._stop_string: str | None = None

    def text(self, text: str) -> bytes:
        self._texts.append(text)
        return self._frames.text(text)

    def part(self, part: ReasoningPart | ToolCallPart) -> bytes:
        self._parts.append(part)
        return self._frames.part(part)

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
        self._texts.append(text)
        if details is not None:
            self._details = [*(self._details or ()), *details]
        if finish is not None:
            self._finish, self._stop_string = finish, stop_string
        return self._frames.event(
            text, finish=finish, stop_string=stop_string, details=details, usage=usage, nvext=nvext
        )

    def outcome(self) -> ChoiceOutcome:
        return ChoiceOutcome(
            index=self._index,
            text="".join(self._texts),
            finish=self._finish,
            parts=self._parts,
            stop_string=self._stop_string,
            details=self._details,
        )

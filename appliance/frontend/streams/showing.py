"""What becomes of a choice's text: events as it comes, or one outcome at the end. Counts nothing, calls no engine."""

from typing import Protocol

import msgspec

from appliance.core.generation import GenerationRequest
from appliance.core.output import OutputPart, TextPart
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, TokenDetail, Usage
from appliance.frontend.streams.parsed_text import merged
from appliance.frontend.streams.seams import ChoiceFrames


class Stream(Protocol):
    """What events need of the answer that they are part of."""

    def put(self, event: bytes) -> None: ...
    def usage(self) -> Usage: ...
    def extras(self) -> Members: ...


class Streamed:
    """Shows a choice as it comes, in the events that its protocol makes."""

    __slots__ = ("_extra_fields", "_frames", "_running_usage", "_stream", "plain")

    def __init__(self, stream: Stream, request: GenerationRequest, frames: ChoiceFrames) -> None:
        self._stream = stream
        self._frames = frames
        self._extra_fields = request.extra_fields
        self._running_usage = request.continuous_usage
        self.plain = request.logprobs is None and not self._running_usage and "token_ids" not in self._extra_fields
        """Until the end there is nothing to show but text."""

    def text(self, text: str) -> None:
        """More text and nothing else."""
        self._stream.put(self._frames.text(text))

    def step(
        self,
        text: str,
        ids: list[int],
        details: list[TokenDetail] | None,
        finish: Finish | None,
        stop_string: str | None,
    ) -> None:
        """Everything but plain text: details, running usage, the end. Nothing is shown when there is nothing new."""
        stream = self._stream
        nvext: Members = {}
        if self._extra_fields:
            if ids and "token_ids" in self._extra_fields:
                nvext["token_ids"] = ids
            if finish is not None:
                nvext |= stream.extras()
        if not (text or details or nvext or finish or self._running_usage):
            return
        usage = stream.usage() if self._running_usage else None
        event = self._frames.event(
            text, finish=finish, stop_string=stop_string, details=details, usage=usage, nvext=nvext
        )
        stream.put(event)

    def parts(
        self,
        parts: list[OutputPart],
        ids: list[int],
        details: list[TokenDetail] | None,
        finish: Finish | None,
        stop_string: str | None,
    ) -> None:
        """What `step` does with parts, in order; the last text goes with whatever else there is to show."""
        text = ""
        if parts and type(parts[-1]) is TextPart:
            text = parts[-1].text
            parts = parts[:-1]
        put, frames = self._stream.put, self._frames
        for part in parts:
            put(frames.text(part.text) if isinstance(part, TextPart) else frames.part(part))
        if not self.plain or finish is not None:
            self.step(text, ids, details, finish, stop_string)
        elif text:
            put(frames.text(text))


class Collected(msgspec.Struct, eq=False):
    """Keeps a choice for an answer in one piece."""

    plain: bool
    """There is nothing to keep but text."""
    _texts: list[str] = []
    _parts: list[OutputPart] = []
    """What a parser made of the output; it comes behind the texts, which then are the echo only."""
    _details: list[TokenDetail] = []

    def text(self, text: str) -> None:
        """More text."""
        self._texts.append(text)

    def step(
        self,
        text: str,
        ids: list[int],
        details: list[TokenDetail] | None,
        finish: Finish | None,
        stop_string: str | None,
    ) -> None:
        """More text, and what else `outcome` tells by itself."""
        self._texts.append(text)
        if details:
            self._details += details

    def parts(
        self,
        parts: list[OutputPart],
        ids: list[int],
        details: list[TokenDetail] | None,
        finish: Finish | None,
        stop_string: str | None,
    ) -> None:
        """What `step` does with parts."""
        self._parts += parts
        if details:
            self._details += details

    def outcome(self, index: int, finish: Finish, stop_string: str | None) -> ChoiceOutcome:
        """The whole choice."""
        text = "".join(self._texts)
        parts: list[OutputPart] = [TextPart(text)] if text else []
        if self._parts:
            parts = merged([*parts, *self._parts])
            text = "".join([part.text for part in parts if isinstance(part, TextPart)])
        return ChoiceOutcome(index, text, finish, parts, stop_string, None if self.plain else self._details)

"""One choice of an answer: the sink of one engine stream."""

import time
from collections.abc import Callable
from typing import Protocol

from appliance.core.errors import ApplianceError, EngineFailed, InternalError, WorkerLost
from appliance.core.generation import GenerationRequest
from appliance.core.output import TextPart
from appliance.core.requests import EngineUsage, TokenChunk
from appliance.frontend.streams.details import DetailQueue
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, TokenDetail, Usage
from appliance.frontend.streams.parsed_text import ParsedText
from appliance.frontend.streams.seams import ChoiceFrames, StopMatcher, TextTools
from appliance.frontend.streams.showing import Collected, Streamed

ENDINGS: dict[str, Finish] = {"stop": "stop", "length": "length"}
FAULTS: dict[str, Callable[[], ApplianceError]] = {
    "error": lambda: EngineFailed("the engine failed on this request"),
    "cancelled": lambda: WorkerLost("the worker gave this request up"),
}


class Whole(Protocol):
    """What a choice tells the answer that it is part of."""

    def put(self, event: bytes) -> None: ...
    def flush(self) -> None: ...
    def choice_ended(self) -> None: ...
    def choice_failed(self, index: int, error: ApplianceError) -> None: ...
    def usage(self) -> Usage: ...
    def extras(self) -> Members: ...


class ChoiceStream:
    """Turns chunks into text and text into events; a `StreamSink`, so nothing here waits or raises.

    A stop string ends the choice at once: nothing is emitted after it, and `on_over` says that the engine stream is
    not wanted any more. It is looked for in all text, also in reasoning and calls, before that is parsed. Details
    belong to the text as it was before parsing, too: every token has one, in order. Tokens and times stay readable
    after the end.
    """

    __slots__ = (
        "_details",
        "_detokeniser",
        "_echo",
        "_frames",
        "_matcher",
        "_request",
        "_shown",
        "_text_frames",
        "_tools",
        "_whole",
        "engine_usage",
        "error",
        "finish",
        "first_at",
        "flush",
        "gaps",
        "index",
        "last_step_at",
        "on_over",
        "on_tokens",
        "parsed",
        "stop_string",
        "token_ids",
    )

    def __init__(
        self,
        whole: Whole,
        index: int,
        request: GenerationRequest,
        frames: ChoiceFrames | None,
        tools: TextTools,
        echo: str,
    ) -> None:
        """`frames` is None for an answer in one piece."""
        self.index = index
        self.on_over: Callable[[], None] | None = None
        """Called once when the engine stream is of no more use: finished, stopped by a stop string, or failed."""
        self.on_tokens: Callable[[], None] | None = None
        """Called after each step that gave tokens, for who keeps count of the load."""
        self.flush = whole.flush
        """See `StreamSink`."""
        self._whole = whole
        self._request = request
        self._frames = frames
        self._tools = tools
        self._echo = echo
        self.restart()

    def restart(self) -> None:
        """Forget the output, for another attempt from the prompt. Only while the client has seen none of it."""
        self.token_ids: list[int] = []
        """Everything the engine gave, so that another worker can go on from here."""
        self.finish: Finish | None = None
        self.stop_string: str | None = None
        """The stop string that ended the choice."""
        self.error: ApplianceError | None = None
        self.first_at: float | None = None
        """`time.perf_counter` of the first token."""
        self.last_step_at = 0.0
        """`time.perf_counter` of the last step; 0 before the first."""
        self.gaps: list[float] = []
        """Seconds between engine steps that gave tokens."""
        self.engine_usage: EngineUsage | None = None
        request, tools, frames = self._request, self._tools, self._frames
        self._detokeniser = tools.detokeniser()
        self._matcher = tools.matcher()
        self._details = None if request.logprobs is None else self._make_details(request.logprobs)
        parser = tools.parser()
        self.parsed = None if parser is None else ParsedText(parser, one_call=not request.parallel_tool_calls)
        """What takes the text apart and counts reasoning; None: all of it is text."""
        self._shown = Collected(request.logprobs is None) if frames is None else Streamed(self._whole, request, frames)
        self._text_frames = frames if self._shown.plain else None
        """Of a stream that shows nothing but text until its end: the hot path goes by them, past `_shown`."""

    def resume(self) -> None:
        """Forget the error only: another worker goes on behind `token_ids`, and the client sees one stream."""
        self.error = None

    def on_chunk(self, chunk: TokenChunk) -> None:
        """See `StreamSink`. What comes after a stop string is dropped."""
        if self.finish is not None or self.error is not None:
            return
        try:
            self._take(chunk)
        except Exception as error:  # the pump serves other streams too: a fault here ends this one only
            fault = InternalError("the server failed on this request")
            fault.__cause__ = error
            self.finish = None
            self.on_error(fault)

    def on_error(self, error: ApplianceError) -> None:
        """See `StreamSink`."""
        if self.finish is not None or self.error is not None:
            return
        self.error = error
        self._whole.choice_failed(self.index, error)
        if self.on_over is not None:
            self.on_over()

    def outcome(self) -> ChoiceOutcome:
        """The finished choice of an answer in one piece. Raises `InternalError` when it has not finished."""
        if self.finish is None or not isinstance(self._shown, Collected):
            raise InternalError("cannot show a choice that has not finished, or was streamed")
        return self._shown.outcome(self.index, self.finish, self.stop_string)

    @property
    def untouched(self) -> bool:
        """The client cannot have seen anything of it."""
        return self.first_at is None or self._frames is None

    def _take(self, chunk: TokenChunk) -> None:
        ids = chunk.token_ids
        if ids:
            now = time.perf_counter()
            if self.first_at is None:
                self.first_at = now
                if self._echo:
                    self._shown.text(self._echo)
            else:
                self.gaps.append(now - self.last_step_at)
            self.last_step_at = now
            self.token_ids += ids
            if self.on_tokens is not None:
                self.on_tokens()
        if chunk.text is not None:
            text = chunk.text
        else:
            text = self._detokeniser.push(ids) if self._details is None else self._details.push(chunk)
        if self._matcher is not None:
            text, self.stop_string = self._matcher.push(text)
        if self.parsed is not None:
            self._take_parsed(self.parsed, chunk, text)
        elif chunk.finish is not None or self.stop_string is not None:
            self._end(chunk, text)
        elif self._text_frames is None:
            self._shown.step(text, ids, self._details_of(len(text)), None, None)
        elif text:
            self._whole.put(self._text_frames.text(text))

    def _take_parsed(self, parsed: ParsedText, chunk: TokenChunk, text: str) -> None:
        """What `_take` does with text that a parser takes apart."""
        parts = parsed.push(text, len(chunk.token_ids))
        ended = chunk.finish is not None or self.stop_string is not None
        frames = self._text_frames
        if frames is not None and not ended and len(parts) == 1 and isinstance(only := parts[0], TextPart):
            self._whole.put(frames.text(only.text))  # most of all steps
            return
        covered = len(text)
        if parsed.complete:
            self.finish, self.engine_usage = "tool_calls", chunk.usage
        elif ended:
            tail = self._close(chunk)
            if tail is None:
                return
            covered += len(tail)
            parts = [*parts, *parsed.push(tail, 0), *parsed.finish(truncated=self.finish == "length")]
            if parsed.calls and (self.finish == "stop" or parsed.complete):
                self.finish = "tool_calls"
        self._shown.parts(parts, chunk.token_ids, self._details_of(covered), self.finish, self.stop_string)
        if self.finish is not None:
            self._conclude()

    def _end(self, chunk: TokenChunk, text: str) -> None:
        tail = self._close(chunk)
        if tail is None:
            return
        text += tail
        details = None if self._details is None else self._details_of(len(text))
        self._shown.step(text, chunk.token_ids, details, self.finish, self.stop_string)
        self._conclude()

    def _close(self, chunk: TokenChunk) -> str | None:
        """Say how the choice ends; the text that was still held back, or None when it ends in an error."""
        self.engine_usage = chunk.usage
        if self.first_at is None and self._echo:
            self._shown.text(self._echo)
        if self.stop_string is not None:
            self.finish = "stop"
            return ""
        self.finish = ENDINGS.get(chunk.finish or "")
        if self.finish is not None:
            tail = self._detokeniser.finish()
            return tail if self._matcher is None else self._finish_matching(self._matcher, tail)
        self.on_error(FAULTS[chunk.finish or "error"]())
        return None

    def _conclude(self) -> None:
        self._whole.choice_ended()
        if self.on_over is not None:
            self.on_over()

    def _finish_matching(self, matcher: StopMatcher, tail: str) -> str:
        """What of the last text and of what the matcher held is to be shown."""
        shown, self.stop_string = matcher.push(tail) if tail else ("", None)
        if self.stop_string is not None:
            self.finish = "stop"
            return shown
        return shown + matcher.finish()

    def _make_details(self, top: int) -> DetailQueue:
        return DetailQueue(self._detokeniser, self._tools.token_bytes, top, as_ids=self._request.tokens_as_ids)

    def _details_of(self, covered: int) -> list[TokenDetail] | None:
        """The details that may be shown with the next so many characters from before parsing, and those of the end."""
        details = self._details
        if details is None:
            return None
        taken = details.take(covered)
        if self.finish is not None and self.stop_string is None:
            taken += details.take_all()
        return taken

"""One choice of an answer: the sink of one engine stream."""

import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Protocol

from appliance.core.errors import ApplianceError, EngineFailed, InternalError, WorkerLost
from appliance.core.generation import GenerationRequest
from appliance.core.output import OutputPart, TextPart
from appliance.core.requests import EngineUsage, TokenChunk
from appliance.frontend.streams.details import DetailQueue
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, TokenDetail, Usage
from appliance.frontend.streams.parsed_text import ParsedText, merged
from appliance.frontend.streams.seams import ChoiceFrames, TextTools

ENDINGS: dict[str, Finish] = {"stop": "stop", "length": "length"}
FAULTS: dict[str, Callable[[], ApplianceError]] = {
    "error": lambda: EngineFailed("the engine failed on this request"),
    "cancelled": lambda: WorkerLost("the worker gave this request up"),
}


class Whole(Protocol):
    """What a choice tells the answer that it is part of."""

    streaming: bool

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
        "_extra_fields",
        "_frames",
        "_length",
        "_matcher",
        "_outcome_details",
        "_parsed",
        "_parts",
        "_plain",
        "_request",
        "_shown",
        "_texts",
        "_tools",
        "_whole",
        "engine_usage",
        "error",
        "finish",
        "first_at",
        "gaps",
        "index",
        "last_step_at",
        "on_over",
        "on_tokens",
        "stop_string",
        "token_ids",
    )

    def __init__(
        self, whole: Whole, index: int, request: GenerationRequest, frames: ChoiceFrames, tools: TextTools, echo: str
    ) -> None:
        self.index = index
        self.on_over: Callable[[], None] | None = None
        """Called once when the engine stream is of no more use: finished, stopped by a stop string, or failed."""
        self.on_tokens: Callable[[], None] | None = None
        """Called after each step that gave tokens, for who keeps count of the load."""
        self._whole = whole
        self._request = request
        self._frames = frames
        self._tools = tools
        self._echo = echo
        self._extra_fields = request.extra_fields
        self._plain = (
            whole.streaming
            and request.logprobs is None
            and not request.continuous_usage
            and "token_ids" not in request.extra_fields
        )
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
        self.gaps: list[float] = []
        """Seconds between engine steps that gave tokens."""
        self.engine_usage: EngineUsage | None = None
        self._detokeniser = self._tools.detokeniser()
        self._matcher = self._tools.matcher()
        self._details = self._make_details()
        self._outcome_details: list[TokenDetail] = []
        parser = self._tools.parser()
        self._parsed = None if parser is None else ParsedText(parser, one_call=not self._request.parallel_tool_calls)
        self._texts: list[str] = []
        self._parts: list[OutputPart] = []
        self.last_step_at = 0.0
        """`time.perf_counter` of the last step; 0 before the first."""
        self._length = 0  # characters of text so far, shown or not; counted only with details
        self._shown = 0

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
        self._over()

    def flush(self) -> None:
        """See `StreamSink`."""
        self._whole.flush()

    def outcome(self) -> ChoiceOutcome:
        """The finished choice. Raises `InternalError` when it has not finished."""
        if self.finish is None:
            raise InternalError("cannot show a choice that has not finished")
        text = "".join(self._texts)
        parts: list[OutputPart] = [TextPart(text)] if text else []
        if self._parts:
            parts = merged([*parts, *self._parts])
            text = "".join(part.text for part in parts if isinstance(part, TextPart))
        return ChoiceOutcome(
            index=self.index,
            text=text,
            finish=self.finish,
            parts=parts,
            stop_string=self.stop_string,
            details=None if self._details is None else self._outcome_details,
        )

    @property
    def untouched(self) -> bool:
        """The client cannot have seen anything of it."""
        return self.first_at is None or not self._whole.streaming

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of reasoning up to now; `ParsedText` says how they are counted."""
        return 0 if self._parsed is None else self._parsed.reasoning_tokens

    def _take(self, chunk: TokenChunk) -> None:
        ids = chunk.token_ids
        if ids:
            now = time.perf_counter()
            if self.first_at is None:
                self.first_at = now
                self._say_echo()
            else:
                self.gaps.append(now - self.last_step_at)
            self.last_step_at = now
            self.token_ids += ids
            if self.on_tokens is not None:
                self.on_tokens()
        details = self._details
        if chunk.text is not None:
            text = chunk.text
        else:
            text = self._detokeniser.push(ids) if details is None else self._push_detailed(details, chunk)
        if self._matcher is not None:
            text, self.stop_string = self._matcher.push(text)
        if self._parsed is not None:
            self._take_parsed(self._parsed, chunk, text)
        elif chunk.finish is not None or self.stop_string is not None:
            self._end(chunk, text)
        elif not self._plain:
            self._show(text, ids, len(text))
        elif text:
            self._whole.put(self._frames.text(text))

    def _take_parsed(self, parsed: ParsedText, chunk: TokenChunk, text: str) -> None:
        """What `_take` does with text that a parser takes apart."""
        parts = parsed.push(text, len(chunk.token_ids))
        ended = chunk.finish is not None or self.stop_string is not None
        if self._plain and not ended and len(parts) == 1 and isinstance(only := parts[0], TextPart):
            self._whole.put(self._frames.text(only.text))  # most of all steps
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
        self._show_parts(parts, chunk.token_ids, covered)
        if self.finish is not None:
            self._conclude()

    def _say_echo(self) -> None:
        if not self._echo:
            return
        if self._whole.streaming:
            self._whole.put(self._frames.text(self._echo))
        else:
            self._texts.append(self._echo)

    def _push_detailed(self, details: DetailQueue, chunk: TokenChunk) -> str:
        """Text token by token, so that each detail knows where its token starts."""
        entries = chunk.logprobs or ()
        pieces = []
        for token_id, entry in zip_longest(chunk.token_ids, entries):
            if entry is not None:
                details.add(token_id, entry, self._length)
            piece = self._detokeniser.push((token_id,))
            pieces.append(piece)
            self._length += len(piece)
        return "".join(pieces)

    def _end(self, chunk: TokenChunk, text: str) -> None:
        tail = self._close(chunk)
        if tail is None:
            return
        text += tail
        self._show(text, chunk.token_ids, len(text))
        self._conclude()

    def _close(self, chunk: TokenChunk) -> str | None:
        """Say how the choice ends; the text that was still held back, or None when it ends in an error."""
        self.engine_usage = chunk.usage
        if self.first_at is None:
            self._say_echo()
        if self.stop_string is not None:
            self.finish = "stop"
            return ""
        if chunk.finish in ENDINGS:
            self.finish = ENDINGS[chunk.finish]
            return self._tail()
        self.on_error(FAULTS[chunk.finish or "error"]())
        return None

    def _conclude(self) -> None:
        self._whole.choice_ended()
        self._over()

    def _tail(self) -> str:
        """What detokeniser and matcher still hold at the engine's own end."""
        tail = self._detokeniser.finish()
        if self._matcher is None:
            return tail
        shown, self.stop_string = self._matcher.push(tail) if tail else ("", None)
        if self.stop_string is not None:
            self.finish = "stop"
            return shown
        return shown + self._matcher.finish()

    def _show_parts(self, parts: list[OutputPart], ids: list[int], covered: int) -> None:
        """All parts in order; the last text goes with whatever else there is to show."""
        if not self._whole.streaming:
            self._parts += parts
            self._show("", ids, covered)
            return
        text = ""
        if parts and type(parts[-1]) is TextPart:
            text = parts[-1].text
            parts = parts[:-1]
        put, frames = self._whole.put, self._frames
        for part in parts:
            put(frames.text(part.text) if isinstance(part, TextPart) else frames.part(part))
        if not self._plain or self.finish is not None:
            self._show(text, ids, covered)
        elif text:
            put(frames.text(text))

    def _show(self, text: str, ids: list[int], covered: int) -> None:
        """Everything but a plain delta: unstreamed text, details, running usage, the end.

        `covered` counts the characters from before parsing whose details may be shown now.
        """
        self._shown += covered
        details = self._shown_details()
        if not self._whole.streaming:
            self._texts.append(text)
            self._outcome_details += details or ()
            return
        request, whole = self._request, self._whole
        nvext: Members = {}
        if ids and "token_ids" in self._extra_fields:
            nvext["token_ids"] = ids
        if self.finish is not None and self._extra_fields:
            nvext |= whole.extras()
        if not (text or details or nvext or self.finish or request.continuous_usage):
            return
        usage = whole.usage() if request.continuous_usage else None
        event = self._frames.event(
            text, finish=self.finish, stop_string=self.stop_string, details=details, usage=usage, nvext=nvext
        )
        whole.put(event)

    def _make_details(self) -> DetailQueue | None:
        top = self._request.logprobs
        if top is None:
            return None
        return DetailQueue(self._tools.token_bytes, top, as_ids=self._request.tokens_as_ids)

    def _shown_details(self) -> list[TokenDetail] | None:
        if self._details is None:
            return None
        if self.finish is not None and self.stop_string is None:
            return self._details.take_all()
        return self._details.take(self._shown)

    def _over(self) -> None:
        if self.on_over is not None:
            self.on_over()

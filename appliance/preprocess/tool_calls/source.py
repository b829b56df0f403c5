"""The text of one answer as it comes, and the steps in which grammars read it.

A step is a generator that yields where it needs more text. Everything read in a block is kept until the block has
given a call, so that what turns out to be no call goes on as text.
"""

import re
from collections.abc import Generator
from typing import TypeVar

from appliance.core.output import OutputPart, TextPart, ToolCallPart
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.splitters import Malformed, Splitter

T = TypeVar("T")
Steps = Generator[None, None, T]

_NO_SPACE = re.compile(r"\S")
HEADER_LIMIT = 512
"""Longest name or tag header, in characters: prose that only looks like one is not held back for ever."""


class Ended(Exception):
    """The text ended inside a block."""


class Source:
    """Gives grammars the text piece by piece and collects what they make of it."""

    __slots__ = ("_at", "_mark", "_older", "_opening", "_parts", "_shown", "_text", "ended", "opened_line", "truncated")

    def __init__(self) -> None:
        self._text = ""
        """What has come and is not older than the last `feed`, but for a short end that was held back."""
        self._at = 0
        self._mark: int | None = None
        """Where in `_text` that part of the current block begins that has given no call yet; None outside blocks."""
        self._older: list[str] = []
        """The pieces between the mark and `_text`."""
        self._opening = ""
        """The block's opening marker until the block has given a call."""
        self._shown: list[str] = []
        self._parts: list[OutputPart] = []
        self.ended = False
        self.opened_line = True
        """The line shown last is blank so far."""
        self.truncated = False
        """The end came because the engine reached a limit."""

    # What the parser does

    def feed(self, text: str) -> None:
        """More text; everything before it has been read, but for what may begin a marker."""
        if self._mark is not None:
            self._older.append(self._text[self._mark : self._at])
            self._mark = 0
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self, *, truncated: bool) -> None:
        """No more text will come."""
        self.ended, self.truncated = True, truncated

    def drain(self) -> list[OutputPart]:
        """The parts found since the last call."""
        self._flush()
        parts, self._parts = self._parts, []
        return parts

    # Blocks

    def text_until(self, markers: Markers) -> Steps[str | None]:
        """Shows text up to the first marker and returns that marker, read; None at the end of all text."""
        while True:
            found = markers.search(self._text, self._at)
            if found:
                self._show(found.start())
                self._at = found.end()
                return found.group()
            self._show(len(self._text) if self.ended else markers.possible_start(self._text, self._at))
            if self.ended:
                return None
            yield

    def begins_with(self, char: str) -> Steps[bool]:
        """Shows white space; whether the text goes on with this character, which is not read."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            self._show(found.start() if found else len(self._text))
            if found or self.ended:
                return bool(found) and self._text[self._at] == char
            yield

    def block(self, opening: str, steps: Steps[None]) -> Steps[bool]:
        """Runs the steps of one block that began with `opening`; False when it was none, or was cut.

        Of a block that does not fit, the opening goes on as text and what follows is read again as text. A block cut
        by the end of a truncated answer is dropped; cut by the end the model chose, it goes on as text.
        """
        self._mark, self._opening = self._at, opening
        fits = False
        try:
            yield from steps
            fits = True
        except Malformed:
            self.back()
            self._put(self._opening)
        except Ended:
            if not self.truncated:
                self.back()
                self._put(self._opening)
                self._show(len(self._text))
            self._at = len(self._text)
        self._mark, self._older = None, []
        return fits

    def emit(self, call: ToolCallPart) -> None:
        """Gives a call; what was read up to here has become it."""
        self._flush()
        self._parts.append(call)
        self.commit()

    def commit(self) -> None:
        """Declares what was read up to here as understood; it will not become text any more."""
        self._mark, self._older, self._opening = self._at, [], ""

    def back(self) -> None:
        """Goes back to the last commit, or to right behind the block's opening."""
        mark = self._mark or 0
        if self._older:
            self._text = "".join(self._older) + self._text[mark:]
            self._older, mark = [], 0
        self._mark = self._at = mark

    def attempt(self, steps: Steps[T]) -> Steps[T | None]:
        """What the steps return; None, and back at the last commit, when they do not fit or the text ends.

        What the end of a truncated answer cut in the middle of such steps is dropped with the block.
        """
        try:
            return (yield from steps)
        except Malformed:
            self.back()
        except Ended:
            self.back()
            if self.truncated and self._text[self._at :].strip():
                raise
        return None

    def closing(self, markers: Markers) -> Steps[None]:
        """Drops the closing markers that follow a commit, also repeated ones. A missing one is forgiven."""
        closed = False
        while (yield from self.attempt(self.one_of(markers))):
            self.commit()
            closed = True
        if self.ended and not closed and self._begins(markers):
            self._at = len(self._text)
            self.commit()

    def _begins(self, markers: Markers) -> bool:
        """Whether the text left over is blank or the beginning of a marker."""
        return markers.may_stand(self._text[self._at :].lstrip(), 0)

    # Reading inside a block

    def peek(self) -> Steps[str]:
        """The next character that is no white space; not read, while the space before it is."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            if found:
                self._at = found.start()
                return found.group()
            self._at = len(self._text)
            yield from self._more()

    def one_of(self, markers: Markers) -> Steps[str]:
        """Reads white space and the marker behind it; anything else is `Malformed`."""
        while True:
            yield from self.peek()
            marker = markers.match(self._text, self._at)
            if marker is not None:
                self._at += len(marker)
                return marker
            if not markers.may_stand(self._text, self._at):
                raise Malformed
            yield from self._more()

    def one_of_or_end(self, markers: Markers, closes: Markers) -> Steps[str]:
        """As `one_of`, but an end that the model chose, perhaps within a closing marker, gives an empty string."""
        try:
            return (yield from self.one_of(markers))
        except Ended:
            if self.truncated or not self._begins(closes):
                raise
            self._at = len(self._text)
            return ""

    def take_until(self, markers: Markers, limit: int | None = None) -> Steps[tuple[str, str]]:
        """Reads up to and with the first marker; the text before it, and the marker.

        `limit` characters without a marker are `Malformed`.
        """
        pieces: list[str] = []
        length = 0
        while True:
            found = markers.search(self._text, self._at)
            cut = found.start() if found else markers.possible_start(self._text, self._at)
            pieces.append(self._text[self._at : cut])
            length += cut - self._at
            self._at = cut
            if limit is not None and length > limit:
                raise Malformed
            if found:
                self._at = found.end()
                return "".join(pieces), found.group()
            yield from self._more()

    def take_while(self, pattern: re.Pattern[str]) -> Steps[str]:
        """Reads characters as long as each matches; at least one, at most `HEADER_LIMIT`."""
        taken = ""
        while True:
            found = pattern.match(self._text, self._at)
            end = found.end() if found else self._at
            taken += self._text[self._at : end]
            self._at = end
            if len(taken) > HEADER_LIMIT:
                raise Malformed
            if end < len(self._text):
                if not taken:
                    raise Malformed
                return taken
            yield from self._more()

    def take_value(self, splitter: Splitter) -> Steps[str]:
        """Reads the value whose end the splitter finds; white space before it is dropped."""
        yield from self.peek()
        pieces: list[str] = []
        while True:
            end = splitter.feed(self._text, self._at) if self._at < len(self._text) else None
            cut = len(self._text) if end is None else end
            pieces.append(self._text[self._at : cut])
            self._at = cut
            if end is not None:
                return "".join(pieces)
            yield from self._more()

    def _more(self) -> Steps[None]:
        if self.ended:
            raise Ended
        yield

    def _show(self, end: int) -> None:
        if end > self._at:
            self._put(self._text[self._at : end])
            self._at = end

    def _put(self, text: str) -> None:
        self._shown.append(text)
        line = text.rfind("\n") + 1
        self.opened_line = (bool(line) or self.opened_line) and not text[line:].strip()

    def _flush(self) -> None:
        text = "".join(self._shown)
        self._shown.clear()
        if text:
            self._parts.append(TextPart(text))

"""The text of one answer as it comes, and the steps that read it inside a block.

A step is a generator that yields where it needs more text.
"""

import re
from collections.abc import Generator
from typing import TypeVar

from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.splitters import Malformed, Splitter

T = TypeVar("T")
Steps = Generator[None, None, T]

NO_SPACE = re.compile(r"\S")
HEADER_LIMIT = 512
"""Longest name or tag header, in characters: prose that only looks like one is not held back for ever."""


class Ended(Exception):
    """The text ended inside a block."""


class Reader:
    """Reads the text piece by piece, and can go back to a mark. What cannot matter any more is not kept."""

    __slots__ = ("_at", "_mark", "_older", "_text", "ended", "truncated")

    def __init__(self) -> None:
        self._text = ""
        """What has come and is not older than the last `feed`, but for a short end that was held back."""
        self._at = 0
        self._mark: int | None = None
        """Where in `_text` that part of the current block begins that has given no call yet; None outside blocks."""
        self._older: list[str] = []
        """The pieces between the mark and `_text`."""
        self.ended = False
        self.truncated = False
        """The end came because the engine reached a limit."""

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

    def back(self) -> None:
        """Goes back to the last commit, or to right behind the block's opening."""
        mark = self._mark or 0
        if self._older:
            self._text = "".join(self._older) + self._text[mark:]
            self._older, mark = [], 0
        self._mark = self._at = mark

    def peek(self) -> Steps[str]:
        """The next character that is no white space; not read, while the space before it is."""
        while True:
            found = NO_SPACE.search(self._text, self._at)
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

    def _begins(self, markers: Markers) -> bool:
        """Whether the text left over is blank or the beginning of a marker."""
        return markers.may_stand(self._text[self._at :].lstrip(), 0)

    def _more(self) -> Steps[None]:
        if self.ended:
            raise Ended
        yield

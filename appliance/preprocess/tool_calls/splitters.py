"""Finders of a value's end in text that comes in pieces; each character is looked at once."""

import re
from typing import Protocol

DEEPEST = 100
"""Nesting that decoders are asked to follow; a model's honest arguments stay far below."""


class Malformed(Exception):
    """Text that does not fit the format; it is no call."""


class Splitter(Protocol):
    """Follows one value through pieces of text."""

    def feed(self, text: str, at: int) -> int | None:
        """Where the value ends in `text`, read from `at`; None when it goes on. Raises `Malformed` for no value."""
        ...


class _BracketSplitter:
    """Counts brackets outside quotes. What counts is the subclass's."""

    __slots__ = ("_depth", "_escaped", "_quote")

    _OUTSIDE: re.Pattern[str]
    """What matters outside a string."""
    _INSIDE: re.Pattern[str]
    """What matters in a string: the backslash, and what may end it."""
    _QUOTES: str
    _OPENING: str

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""
        self._escaped = False

    def feed(self, text: str, at: int) -> int | None:
        """See `Splitter`."""
        if not self._depth and text[at] not in self._OPENING:
            raise Malformed
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (self._INSIDE if self._quote else self._OUTSIDE).search(text, at)
            if found is None:
                return None
            at = found.end()
            self._step(found.group())
            if not self._depth:
                return at
        return None

    def _step(self, char: str) -> None:
        if self._quote:
            if char == "\\":
                self._escaped = True
            elif char == self._quote:
                self._quote = ""
        elif char in self._QUOTES:
            self._quote = char
        elif char in self._OPENING and self._depth < DEEPEST:
            self._depth += 1
        elif char in ")]}":
            self._depth -= 1
        else:
            raise Malformed


class JsonSplitter(_BracketSplitter):
    """One JSON object or array. Only its end is found here; decoding finds what else is wrong with it."""

    __slots__ = ()

    # Brackets, quotes, and every character that no JSON text has outside a string: there the value is broken.
    _OUTSIDE = re.compile(r'["{}\[\]]|[^ \t\r\n0-9:,+\-.eEtrufalsn]')
    _INSIDE = re.compile(r'["\\]')
    _QUOTES = '"'
    _OPENING = "{["


class PythonSplitter(_BracketSplitter):
    """The arguments of one Python call, from the opening round bracket to its partner."""

    __slots__ = ()

    _OUTSIDE = re.compile(r"""["'()\[\]{}]""")
    _INSIDE = re.compile(r"""["'\\]""")
    _QUOTES = "\"'"
    _OPENING = "([{"

"""The format of Gemma 4: `call:NAME{key:value}` with bare keys and its own quotation marks."""

import re
from typing import Any

from appliance.preprocess.tool_calls.arguments import decode_json
from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import Steps
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.splitters import DEEPEST, Malformed

_QUOTE = '<|"|>'


class Gemma4(Grammar):
    """`<|tool_call>` call `<tool_call|>`; markers inside quoted strings are text."""

    starts = Markers("<|tool_call>")
    closes = Markers("<tool_call|>")
    _head = Markers("call:")
    _name = re.compile(r"[^\s{}<>\[\]\"',]+")
    _quote = Markers(_QUOTE)
    _outside = Markers(_QUOTE, "{", "}")

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        yield from source.one_of(self._head)
        name = yield from source.take_while(self._name)
        if (yield from source.peek()) != "{":
            raise Malformed
        raw = yield from self._braces(source)
        source.emit(self.calls.call(name, _Reader(raw).whole()))
        yield from source.closing(self.closes)

    def _braces(self, source: Source) -> Steps[str]:
        pieces: list[str] = []
        depth = 0
        while True:
            text, found = yield from source.take_until(self._outside)
            pieces += (text, found)
            if found == _QUOTE:
                text, found = yield from source.take_until(self._quote)
                pieces += (text, found)
            else:
                depth += 1 if found == "{" else -1
                if not depth:
                    return "".join(pieces)


class _Reader:
    """Reads one whole value; every method raises `Malformed` where the text does not fit."""

    _SPACE = re.compile(r"\s*")
    _KEY = re.compile(r'[^\s:{}\[\]<>",]+')
    _BARE = re.compile(r"[^,{}\[\]<]+")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> dict[str, Any]:
        value = self._value()
        if self._at != len(self._text) or not isinstance(value, dict):
            raise Malformed
        return value

    def _value(self) -> Any:
        if self._take(_QUOTE):
            return self._string()
        if self._take("{"):
            return dict(self._items("}", self._member))
        if self._take("["):
            return self._items("]", self._value)
        return decode_json(self._match(self._BARE).strip())

    def _items(self, close: str, read: Any) -> list[Any]:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Malformed
        items: list[Any] = []
        while not self._take(close):
            if items and not self._take(","):
                raise Malformed
            items.append(read())
        self._depth -= 1
        return items

    def _member(self) -> tuple[str, Any]:
        key = self._string() if self._take(_QUOTE) else self._match(self._KEY)
        if not self._take(":"):
            raise Malformed
        return key, self._value()

    def _string(self) -> str:
        start = self._at
        end = self._text.find(_QUOTE, start)
        if end < 0:
            raise Malformed
        self._at = end + len(_QUOTE)
        return self._text[start:end]

    def _take(self, mark: str) -> bool:
        self._at = self._skip()
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._skip())
        if found is None:
            raise Malformed
        self._at = found.end()
        return found.group()

    def _skip(self) -> int:
        found = self._SPACE.match(self._text, self._at)
        return found.end() if found else self._at

"""Formats that write a call as a tag with one tag per argument: qwen3_coder, minimax_m2 and DeepSeek's DSML."""

import re
from dataclasses import dataclass, field
from typing import Any

from appliance.preprocess.tool_calls.arguments import decode_json
from appliance.preprocess.tool_calls.calls import CallMaker
from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import HEADER_LIMIT, Steps
from appliance.preprocess.tool_calls.schema import unescape
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.splitters import Malformed

_GREATER = Markers(">")
_ATTRIBUTE = re.compile(r"""\s+([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The tags of one format."""

    outer: tuple[tuple[str, str], ...]
    call: tuple[str, str]
    """What a call begins with, up to where its header begins, and what it ends with."""
    argument: tuple[str, str]
    attributes: bool
    """The header is a list of attributes with a name among them; else it is the name itself."""
    escaped: bool
    """Values have entities, and a line break of their own around them."""
    outer_closes: Markers = field(init=False)
    starts: Markers = field(init=False)
    call_open: Markers = field(init=False)
    inside_block: Markers = field(init=False)
    inside_call: Markers = field(init=False)
    argument_close: Markers = field(init=False)

    def __post_init__(self) -> None:
        closes = tuple(close for _, close in self.outer)
        for name, markers in (
            ("outer_closes", Markers(*closes)),
            ("starts", Markers(*(start for start, _ in self.outer), self.call[0])),
            ("call_open", Markers(self.call[0])),
            ("inside_block", Markers(self.call[0], *closes)),
            ("inside_call", Markers(self.argument[0], self.call[1], *closes)),
            ("argument_close", Markers(self.argument[1])),
        ):
            object.__setattr__(self, name, markers)  # derived once; the dialect is frozen for all others

    def header(self, text: str) -> dict[str, str]:
        """The attributes of a tag, `name` among them. Raises `Malformed`."""
        if not self.attributes:
            return {"name": text.strip().strip("\"'")}
        attributes: dict[str, str] = {}
        at = 0
        while found := _ATTRIBUTE.match(text, at):
            attributes[found[1]] = next(value for value in found.groups()[1:] if value is not None)
            at = found.end()
        if not _BLANK.fullmatch(text, at) or "name" not in attributes:
            raise Malformed
        return attributes


QWEN3_CODER = Dialect(
    outer=(("<tool_call>", "</tool_call>"),),
    call=("<function=", "</function>"),
    argument=("<parameter=", "</parameter>"),
    attributes=False,
    escaped=True,
)
MINIMAX = Dialect(
    outer=(("<minimax:tool_call>", "</minimax:tool_call>"),),
    call=("<invoke", "</invoke>"),
    argument=("<parameter", "</parameter>"),
    attributes=True,
    escaped=True,
)
DSML = Dialect(
    outer=(  # of V4 and of V3.2; both are read for both
        ("<\uff5cDSML\uff5ctool_calls>", "</\uff5cDSML\uff5ctool_calls>"),
        ("<\uff5cDSML\uff5cfunction_calls>", "</\uff5cDSML\uff5cfunction_calls>"),
    ),
    call=("<\uff5cDSML\uff5cinvoke", "</\uff5cDSML\uff5cinvoke>"),
    argument=("<\uff5cDSML\uff5cparameter", "</\uff5cDSML\uff5cparameter>"),
    attributes=True,
    escaped=False,
)


class TagBlocks(Grammar):
    """Calls in one of the dialects, with or without the outer tag around them."""

    def __init__(self, calls: CallMaker, dialect: Dialect) -> None:
        super().__init__(calls)
        self._dialect = dialect
        self.starts = dialect.starts

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        dialect = self._dialect
        if marker != dialect.call[0]:
            marker = yield from source.one_of(dialect.inside_block)
        if marker == dialect.call[0]:
            yield from self._call(source)
            while (yield from source.attempt(self._another(source))):
                pass
        else:
            source.commit()
        yield from source.closing(dialect.outer_closes)

    def _another(self, source: Source) -> Steps[bool]:
        yield from source.one_of(self._dialect.call_open)
        yield from self._call(source)
        return True

    def _call(self, source: Source) -> Steps[None]:
        dialect = self._dialect
        name = (yield from self._header(source))["name"]
        arguments: dict[str, Any] = {}
        while (yield from source.one_of(dialect.inside_call)) == dialect.argument[0]:
            header = yield from self._header(source)
            text, _ = yield from source.take_until(dialect.argument_close)
            arguments[header["name"]] = self._value(name, header, text)
        source.emit(self.calls.call(name, arguments))

    def _header(self, source: Source) -> Steps[dict[str, str]]:
        text, _ = yield from source.take_until(_GREATER, HEADER_LIMIT)
        attributes = self._dialect.header(text)
        if not attributes["name"]:
            raise Malformed
        return attributes

    def _value(self, name: str, header: dict[str, str], text: str) -> Any:
        key = header["name"]
        if self._dialect.escaped:
            return self.calls.typed(name, key, unescape(trim_line_breaks(text)))
        if "string" not in header:
            return self.calls.typed(name, key, text)
        if header["string"].lower() == "true":
            return text
        try:
            return decode_json(text)
        except Malformed:
            return text


def trim_line_breaks(text: str) -> str:
    """The text without the one line break that templates put before and after a value."""
    return text.removeprefix("\r").removeprefix("\n").removesuffix("\n").removesuffix("\r")

"""The format of GLM 4.5 and later: a name, then pairs of key and value tags."""

import re
from typing import Any

from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import HEADER_LIMIT, Steps
from appliance.preprocess.tool_calls.schema import unescape
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.tag_blocks import trim_line_breaks

_NAME = re.compile(r"[^\s<>{}\[\]()\"',:;]+")
_KEY, _KEY_END = "<arg_key>", Markers("</arg_key>")
_VALUE, _VALUE_END = Markers("<arg_value>"), Markers("</arg_value>")


class Glm(Grammar):
    """`<tool_call>` name, any number of keys with values, `</tool_call>`; white space between all of them."""

    starts = Markers("<tool_call>")
    closes = Markers("</tool_call>")
    _inside = Markers(_KEY, "</tool_call>")

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        yield from source.peek()
        name = yield from source.take_while(_NAME)
        arguments: dict[str, Any] = {}
        while (yield from self._next(source, bool(arguments))) == _KEY:
            key, _ = yield from source.take_until(_KEY_END, HEADER_LIMIT)
            yield from source.one_of(_VALUE)
            text, _ = yield from source.take_until(_VALUE_END)
            value = unescape(trim_line_breaks(text))
            arguments[key.strip()] = self.calls.typed(name, key.strip(), value)
        source.emit(self.calls.call(name, arguments))
        yield from source.closing(self.closes)

    def _next(self, source: Source, has_arguments: bool) -> Steps[str]:
        if has_arguments:  # a model that stops here without the closing tag has said all
            return (yield from source.one_of_or_end(self._inside, self.closes))
        return (yield from source.one_of(self._inside))

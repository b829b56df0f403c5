"""The format of gpt-oss: messages with a channel and, for calls, a recipient. Needs no token tables."""

import re

from appliance.preprocess.tool_calls.arguments import decode_object
from appliance.preprocess.tool_calls.calls import PREFIX
from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import HEADER_LIMIT, Steps
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.splitters import JsonSplitter, Malformed

_RECIPIENT = re.compile(r"\bto=([^\s<]+)")


class Harmony(Grammar):
    """A message to `functions.NAME` is a call. All other messages stay as they are: channels are reasoning's matter.

    The recipient may stand before or behind the channel, and the JSON hint with or without its own marker.
    """

    starts = Markers("<|start|>", "<|channel|>")
    _header_marks = Markers("<|message|>", "<|start|>", "<|channel|>")
    _ends = Markers("<|call|>", "<|end|>", "<|return|>")

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        header, mark = yield from source.take_until(self._header_marks, HEADER_LIMIT)
        if (marker, mark) == ("<|start|>", "<|channel|>"):
            rest, mark = yield from source.take_until(self._header_marks, HEADER_LIMIT)
            header += " " + rest
        if mark != "<|message|>":
            raise Malformed
        recipient = _RECIPIENT.search(header)
        if recipient is None:
            raise Malformed
        name = recipient[1]
        if not name.startswith(PREFIX) and not self.calls.knows(name):
            raise Malformed  # a tool that is built into the model, not one of the request's
        if (yield from source.peek()) == "<":
            yield from source.one_of(self._ends)
            source.emit(self.calls.call(name, {}, prefixed=True))
            return
        raw = yield from source.take_value(JsonSplitter())
        source.emit(self.calls.call(name, decode_object(raw), prefixed=True))
        yield from source.closing(self._ends)

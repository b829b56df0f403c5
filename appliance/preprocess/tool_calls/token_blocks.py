"""Formats whose structure is special tokens around a name and JSON arguments: Kimi K2 and DeepSeek V3, V3.1."""

import re

from appliance.preprocess.tool_calls.arguments import decode_object
from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import HEADER_LIMIT, Steps
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.splitters import JsonSplitter, Malformed


class TokenBlocks(Grammar):
    """Calls between a pair of markers, in a section between another pair that may be missing."""

    call_open = Markers()
    call_close = Markers()
    section_close = Markers()

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        opened = self.call_open.match(marker, 0) is not None or (yield from source.attempt(self._opens_call(source)))
        if not opened:
            yield from source.one_of(self.section_close)
            source.commit()
            return
        yield from self.call(source)
        yield from source.closing(self.call_close)
        while (yield from source.attempt(self._opens_call(source))):
            yield from self.call(source)
            yield from source.closing(self.call_close)
        yield from source.closing(self.section_close)

    def call(self, source: Source) -> Steps[None]:
        """Reads one call behind its opening marker and gives it."""
        raise NotImplementedError

    def arguments(self, source: Source) -> Steps[str]:
        """Reads the JSON text of the arguments; blank where there is none before the call's end."""
        if (yield from source.peek()) != "{":
            yield from source.one_of(self.call_close)
            return ""
        return (yield from source.take_value(JsonSplitter()))

    def _opens_call(self, source: Source) -> Steps[bool]:
        return bool((yield from source.one_of(self.call_open)))


class KimiK2(TokenBlocks):
    """Names its calls itself: `functions.NAME:INDEX` is the id."""

    call_open = Markers("<|tool_call_begin|>")
    call_close = Markers("<|tool_call_end|>")
    section_close = Markers("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
    starts = Markers("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>", "<|tool_call_begin|>")
    _arguments = Markers("<|tool_call_argument_begin|>")
    _index = re.compile(r":\d+$")

    def call(self, source: Source) -> Steps[None]:
        """See `TokenBlocks`."""
        header, _ = yield from source.take_until(self._arguments, HEADER_LIMIT)
        call_id = header.strip()
        raw = yield from self.arguments(source)
        name = self._index.sub("", call_id)
        source.emit(self.calls.call(name, decode_object(raw), call_id=call_id, prefixed=True))


class DeepSeekV3(TokenBlocks):
    """V3 writes the call's type, its name and fenced JSON; V3.1 the name and bare JSON. Both are read for both."""

    call_open = Markers("<\uff5ctool\u2581call\u2581begin\uff5c>")
    call_close = Markers("<\uff5ctool\u2581call\u2581end\uff5c>")
    section_close = Markers("<\uff5ctool\u2581calls\u2581end\uff5c>")
    starts = Markers("<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581call\u2581begin\uff5c>")
    _separator = Markers("<\uff5ctool\u2581sep\uff5c>")
    _fence = Markers("```")
    _language = re.compile(r"[a-z]+")
    _line = Markers("\n")

    def call(self, source: Source) -> Steps[None]:
        """See `TokenBlocks`."""
        header, _ = yield from source.take_until(self._separator, HEADER_LIMIT)
        if (yield from source.peek()) == "{" or header.strip() != "function":
            raw = yield from self.arguments(source)
            source.emit(self.calls.call(header, decode_object(raw)))
            return
        header, _ = yield from source.take_until(self._line, HEADER_LIMIT)
        if (yield from source.peek()) == "`":
            yield from self._fenced(source, header)
            return
        raw = yield from self.arguments(source)
        source.emit(self.calls.call(header, decode_object(raw)))

    def _fenced(self, source: Source, name: str) -> Steps[None]:
        yield from source.one_of(self._fence)
        if (yield from source.peek()) not in "{`":
            yield from source.take_while(self._language)
        raw = ""
        if (yield from source.peek()) == "{":
            raw = yield from source.take_value(JsonSplitter())
        elif (yield from source.peek()) != "`":
            raise Malformed
        source.emit(self.calls.call(name, decode_object(raw)))
        yield from source.closing(self._fence)

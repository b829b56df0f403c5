"""Formats whose calls are JSON objects behind a marker: hermes, nemotron_deci, jamba, llama3_json, mistral, phi4."""

import re

from appliance.preprocess.tool_calls.arguments import decode_json, decode_object
from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import Steps
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.splitters import JsonSplitter, Malformed


class JsonBlocks(Grammar):
    """One object with a name and arguments, or an array of them, between two markers."""

    closes = Markers()

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        if (yield from source.peek()) == "[":
            yield from self.array(source)
        else:
            yield from self.object(source)
        yield from source.closing(self.closes)

    def object(self, source: Source) -> Steps[None]:
        """Reads one object and gives its call."""
        raw = yield from source.take_value(JsonSplitter())
        source.emit(self.calls.from_object(decode_json(raw)))

    def array(self, source: Source) -> Steps[None]:
        """Reads an array and gives each call as soon as its object is whole."""
        yield from source.one_of(_OPEN)
        while (yield from source.peek()) != "]":
            yield from self.object(source)
            if (yield from source.peek()) != "]":
                yield from source.one_of(_COMMA)
        yield from source.one_of(_CLOSE)
        source.commit()


class Hermes(JsonBlocks):
    """`<tool_call>` object `</tool_call>`."""

    starts = Markers("<tool_call>")
    closes = Markers("</tool_call>")


class NemotronDeci(JsonBlocks):
    """`<TOOLCALL>` array `</TOOLCALL>`."""

    starts = Markers("<TOOLCALL>")
    closes = Markers("</TOOLCALL>")


class Default(JsonBlocks):
    """Either of two widespread markers."""

    starts = Markers("<TOOLCALL>", "<|python_tag|>")
    closes = Markers("</TOOLCALL>")


class Jamba(JsonBlocks):
    """`<tool_calls>` array `</tool_calls>`."""

    starts = Markers("<tool_calls>")
    closes = Markers("</tool_calls>")


class Phi4(JsonBlocks):
    """The word `functools` and an array."""

    starts = Markers("functools")

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        yield from self.array(source)


class Llama3(JsonBlocks):
    """A python tag and objects joined by semicolons. An answer may also begin with the object itself."""

    starts = Markers("<|python_tag|>")

    def run(self, source: Source) -> Steps[None]:
        """See `Grammar`."""
        if (yield from source.begins_with("{")):
            yield from source.block("", self.block(source, ""))
        yield from super().run(source)

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        yield from super().block(source, marker)
        while (yield from source.attempt(self._separator(source))):
            yield from self.object(source)

    def _separator(self, source: Source) -> Steps[bool]:
        yield from source.one_of(_SEMICOLON)
        if (yield from source.peek()) != "{":
            raise Malformed
        return True


class Mistral(JsonBlocks):
    """`[TOOL_CALLS]` and an array; since version 11 of its tokenizer a name and its arguments."""

    starts = Markers("[TOOL_CALLS]")
    closes = Markers("[/TOOL_CALLS]")

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        if (yield from source.peek()) in "[{":
            yield from super().block(source, marker)
            return
        name = yield from source.take_while(_MISTRAL_NAME)
        if (yield from source.peek()) == "[":
            part = yield from source.one_of(_MISTRAL_PARTS)
            if part == "[CALL_ID]":
                yield from source.take_while(_MISTRAL_NAME)
                yield from source.one_of(_ARGS)
        raw = yield from source.take_value(JsonSplitter())
        source.emit(self.calls.call(name, decode_object(raw)))
        yield from source.closing(self.closes)


_OPEN, _COMMA, _CLOSE, _SEMICOLON = map(Markers, "[,];")
_ARGS, _MISTRAL_PARTS = Markers("[ARGS]"), Markers("[ARGS]", "[CALL_ID]")
_MISTRAL_NAME = re.compile(r"[^\s\[\]{}()<>\"',:;]+")

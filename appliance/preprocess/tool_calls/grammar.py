"""What all tool-call parsers share: the interface, and the parser that runs a family's grammar."""

from collections.abc import Iterator
from typing import Protocol

from appliance.core.output import OutputPart, TextPart
from appliance.preprocess.tool_calls.calls import CallMaker
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import Steps
from appliance.preprocess.tool_calls.source import Source


class ToolCallParser(Protocol):
    """Splits one answer into text and whole calls. The result does not depend on how the text was cut into pieces."""

    def push(self, text: str) -> list[OutputPart]:
        """What the new text completes: `TextPart` and `ToolCallPart`, in the order generated."""
        ...

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """What was held back, now that the engine has ended. Nothing may be pushed after it.

        `truncated`: the engine reached a limit. A call that it cut is neither a call nor text.
        """
        ...


class Grammar:
    """One family's format. A subclass says how a block begins and how its inside is read."""

    starts = Markers()

    def __init__(self, calls: CallMaker) -> None:
        self.calls = calls

    def run(self, source: Source) -> Steps[None]:
        """Reads the whole answer."""
        while (marker := (yield from source.text_until(self.starts))) is not None:
            yield from source.block(marker, self.block(source, marker))

    def block(self, source: Source, marker: str) -> Steps[None]:
        """Reads one block behind its opening `marker` and gives its calls. Raises `Malformed` where it is none."""
        raise NotImplementedError


class GrammarParser:
    """The parser of one answer: hands text to a grammar's steps."""

    __slots__ = ("_source", "_steps")

    def __init__(self, grammar: Grammar) -> None:
        self._source = Source()
        self._steps: Iterator[None] = grammar.run(self._source)
        next(self._steps)

    def push(self, text: str) -> list[OutputPart]:
        """See `ToolCallParser`."""
        if not text:
            return []
        if self._source.passes(text):
            return [TextPart(text)]
        self._source.feed(text)
        next(self._steps)
        return self._source.drain()

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """See `ToolCallParser`."""
        self._source.end(truncated=truncated)
        next(self._steps, None)
        return self._source.drain()

"""From generated text to the parts of an answer: reasoning is split off first, then tool calls out of the rest."""

from typing import Protocol, runtime_checkable

from appliance.core.output import OutputPart, TextPart
from appliance.preprocess.reasoning.parser import ReasoningParser
from appliance.preprocess.reasoning.parts import joined


class ToolCallParser(Protocol):
    """What is needed of a parser of tool calls."""

    def push(self, text: str) -> list[OutputPart]:
        """The parts that the new text makes certain."""
        ...

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """What was held back; `truncated` when the output was cut by a limit."""
        ...


@runtime_checkable
class ReleasesText(Protocol):
    """A parser of tool calls that can be told that the text does not go on where it is."""

    def release(self) -> list[OutputPart]:
        """The text held back because a marker might begin with it; nothing while inside of a call."""
        ...


class OutputParser:
    """Makes the parts of one choice's output, in the order generated.

    All parts of all pushes and of `finish`, neighbours joined, are the same for any cutting of the text. So a stream
    that goes on in another worker is continued by the same object, or by a fresh one that was given all text again.

    Reasoning that begins while a tool call is unfinished comes before the call; the call's text goes on after it.
    """

    __slots__ = ("_reasoning", "_release", "_tools")

    def __init__(self, reasoning: ReasoningParser | None, tools: ToolCallParser | None) -> None:
        self._reasoning = reasoning
        self._tools = tools
        self._release = tools.release if isinstance(tools, ReleasesText) else None

    def push(self, text: str) -> list[OutputPart]:
        """The parts that the new text makes certain; neighbours of one kind are one."""
        if not text:
            return []
        parts: list[OutputPart] = [TextPart(text)] if self._reasoning is None else [*self._reasoning.push(text)]
        if self._tools is not None:
            only = parts[0] if len(parts) == 1 else None  # nearly always, so it takes the short way
            parts = self._tools.push(only.text) if isinstance(only, TextPart) else self._find_calls(parts)
        return parts if len(parts) < 2 else joined(parts)

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """What was held back; `truncated` when the output was cut by a limit. Nothing may be pushed after it."""
        parts = self._find_calls([] if self._reasoning is None else [*self._reasoning.finish()])
        if self._tools is not None:
            parts += self._tools.finish(truncated=truncated)
        return joined(parts)

    def _find_calls(self, parts: list[OutputPart]) -> list[OutputPart]:
        if self._tools is None:
            return parts
        found: list[OutputPart] = []
        for part in parts:
            if isinstance(part, TextPart):
                found += self._tools.push(part.text)
                continue
            if self._release is not None:
                found += self._release()
            found.append(part)
        return found

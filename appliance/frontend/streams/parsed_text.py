"""The parts that a choice's text is made of: runs the output parser and keeps count of what came out."""

from collections.abc import Iterable

from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.frontend.streams.seams import OutputParser


class ParsedText:
    """One choice's way through its parser.

    A token is counted as reasoning by the parts that its step completes: all of them, none, or a share by their
    characters. A step that completes nothing, because its text is held back, is counted together with the next one
    that does; with marks and the texts of tool calls that is the kind that follows them.
    """

    __slots__ = ("_one_call", "_parser", "_uncounted", "calls", "reasoning_tokens")

    def __init__(self, parser: OutputParser, *, one_call: bool) -> None:
        """`one_call`: everything after the first call is dropped."""
        self.calls = 0
        self.reasoning_tokens = 0
        self._parser = parser
        self._one_call = one_call
        self._uncounted = 0

    @property
    def complete(self) -> bool:
        """The one call that was wanted is there: nothing more will come out."""
        return self._one_call and self.calls > 0

    def push(self, text: str, tokens: int) -> list[OutputPart]:
        """The parts that the text of some tokens completes, in order."""
        self._uncounted += tokens
        parts = self._parser.push(text) if text else []
        if len(parts) == 1 and type(parts[0]) is TextPart:  # most of all steps
            self._uncounted = 0
            return parts
        return self._taken(parts) if parts else parts

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """What was held back; `truncated` when a limit ended the output, so that no call is made up from a half."""
        return [] if self.complete else self._taken(self._parser.finish(truncated=truncated))

    def _taken(self, parts: list[OutputPart]) -> list[OutputPart]:
        calls = [place for place, part in enumerate(parts) if type(part) is ToolCallPart]
        if calls and self._one_call:
            parts = parts[: calls[0] + 1]
        self.calls += len(calls[:1] if self._one_call else calls)
        self._count(parts)
        return parts

    def _count(self, parts: list[OutputPart]) -> None:
        reasoning = sum(len(part.text) for part in parts if type(part) is ReasoningPart)
        everything = sum(_size(part) for part in parts)
        if everything:
            self.reasoning_tokens += round(self._uncounted * reasoning / everything)
            self._uncounted = 0


def _size(part: OutputPart) -> int:
    return len(part.name) + len(part.arguments) if isinstance(part, ToolCallPart) else len(part.text)


def merged(parts: Iterable[OutputPart]) -> list[OutputPart]:
    """The same parts with neighbours of one kind made one, in linear time; empty texts vanish."""
    result: list[OutputPart] = []
    run: list[str] = []
    kind: type[TextPart] | type[ReasoningPart] = TextPart
    for part in parts:
        if isinstance(part, ToolCallPart) or type(part) is not kind:
            if run:
                result.append(kind("".join(run)))
                run = []
            if isinstance(part, ToolCallPart):
                result.append(part)
                continue
            kind = type(part)
        if part.text:
            run.append(part.text)
    return [*result, kind("".join(run))] if run else result

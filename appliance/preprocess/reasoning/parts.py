"""Collects parts of an answer and joins neighbours of one kind."""

from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart

ReasonedPart = TextPart | ReasoningPart
TextKind = type[TextPart] | type[ReasoningPart]


class PartList:
    """The parts that one push makes."""

    __slots__ = ("_kind", "_parts", "_texts")

    def __init__(self) -> None:
        self._parts: list[ReasonedPart] = []
        self._kind: TextKind = TextPart
        self._texts: list[str] = []
        """Of the last part, not joined yet: many short pieces would else be copied again and again."""

    def add(self, kind: TextKind, text: str) -> None:
        """Append text; empty text makes no part."""
        if not text:
            return
        if kind is not self._kind:
            self._close()
            self._kind = kind
        self._texts.append(text)

    def take(self) -> list[ReasonedPart]:
        """All parts. Call it once, at the end."""
        self._close()
        return self._parts

    def _close(self) -> None:
        if self._texts:
            self._parts.append(self._kind("".join(self._texts)))
            self._texts = []


def joined(parts: list[OutputPart]) -> list[OutputPart]:
    """The same parts, neighbours of one kind made one."""
    result: list[OutputPart] = []
    run = PartList()
    for part in parts:
        if isinstance(part, ToolCallPart):
            result += run.take()
            result.append(part)
            run = PartList()
        else:
            run.add(type(part), part.text)
    return result + run.take()

"""A parser for tests: each piece of text says by its first character what it is."""

from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart


class MarkedOutput:
    """`?why` is reasoning, `!name {"a":1}` is a call, everything else is text."""

    def __init__(self) -> None:
        self._calls = 0

    def push(self, text: str) -> list[OutputPart]:
        if text.startswith("?"):
            return [ReasoningPart(text[1:])]
        if text.startswith("!"):
            name, _, arguments = text[1:].partition(" ")
            index, self._calls = self._calls, self._calls + 1
            return [ToolCallPart(index=index, id=f"call-{index}", name=name, arguments=arguments)]
        return [TextPart(text)] if text else []

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        return []

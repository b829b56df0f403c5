"""A parser of tool calls for a made-up format: `[[name]]` is a call without arguments."""

from appliance.core.output import OutputPart, TextPart, ToolCallPart

OPEN, CLOSE = "[[", "]]"


class BracketCalls:
    """Holds back one bracket, and from two brackets on everything up to the closing ones."""

    def __init__(self) -> None:
        self._held = ""
        self._calls = 0

    def push(self, text: str) -> list[OutputPart]:
        """See `ToolCallParser`."""
        parts: list[OutputPart] = []
        text = self._held + text
        while (start := text.find(OPEN)) >= 0 and (end := text.find(CLOSE, start + 2)) >= 0:
            parts += _text(text[:start])
            parts.append(ToolCallPart(index=self._calls, id="id", name=text[start + 2 : end], arguments="{}"))
            self._calls += 1
            text = text[end + 2 :]
        if start < 0 and text.endswith("["):
            start = len(text) - 1
        self._held = text[start:] if start >= 0 else ""
        return [*parts, *_text(text[:start] if start >= 0 else text)]

    def release(self) -> list[OutputPart]:
        """See `ReleasesText`."""
        if self._held.startswith(OPEN):
            return []
        held, self._held = self._held, ""
        return _text(held)

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """See `ToolCallParser`. An unfinished call is shown, but not when the output was cut."""
        held, self._held = self._held, ""
        return [] if truncated and held.startswith(OPEN) else _text(held)


def _text(text: str) -> list[OutputPart]:
    return [TextPart(text)] if text else []

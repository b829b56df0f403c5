"""One turn of the assistant, put together again from the items that an answer of ours is cut into."""

from typing import Any

Turn = dict[str, Any]


class AssistantTurn:
    """Reasoning, text and calls up to now, in an order that one message can show: text, then calls.

    Reasoning may stand in front of everything and of each call. What comes in another order begins a new message.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._text: str | None = None
        self._calls: list[Turn] = []
        self._reasoning = [""]  # in front of each call, and after the last one

    def add_reasoning(self, text: str) -> list[Turn]:
        """Take reasoning; returns the message that had to end before it, if one had."""
        ended = self.take() if self._text is not None and not self._calls else []
        before = self._reasoning[-1]
        self._reasoning[-1] = f"{before}\n{text}" if before and text else before or text
        return ended

    def add_text(self, text: str) -> list[Turn]:
        """Take text; returns the message that had to end before it, if one had."""
        if self._text is None and not self._calls:
            self._text = text
            return []
        about_text = self._reasoning.pop() if self._calls else ""
        self._reasoning.append("")
        ended = self.take()
        self._reasoning, self._text = [about_text], text
        return ended

    def add_call(self, call: Turn) -> None:
        """Take a call."""
        self._calls.append(call)
        self._reasoning.append("")

    def take(self) -> list[Turn]:
        """The message, and begin anew; empty when nothing was said."""
        if self._text is None and not self._calls and not self._reasoning[0]:
            return []
        turn: Turn = {"role": "assistant", "content": self._text or ""}
        if self._calls:
            turn["tool_calls"] = self._calls
        if any(self._reasoning[1:]):
            turn["reasoning_content"] = self._reasoning
        elif self._reasoning[0]:
            turn["reasoning_content"] = self._reasoning[0]
        self._begin()
        return [turn]

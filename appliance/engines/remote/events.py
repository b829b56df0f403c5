"""Reads the chunks of an OpenAI server's stream as text.

What the server has parsed already, reasoning and tool calls, is written back between the marks that the front end's
`basic` and `hermes` parsers read: a front end knows one form only, and every client protocol is made from it.
"""

from typing import Any

import msgspec

from appliance.core.requests import EngineUsage, FinishReason
from appliance.engines.foreign.finish import finish_of
from appliance.engines.foreign.relay import Step

ANY_TOKEN = 0
REASONING_PARSER, TOOL_CALL_PARSER = "basic", "hermes"
"""The parsers whose marks are written here."""


class TextEvents:
    """An `EventReader` of chat and plain completions, streamed or whole."""

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self._reported: dict[str, Any] | None = None
        self._pieces = 0
        self._thinking = False
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, event: dict[str, Any]) -> Step:
        """See `EventReader.take`."""
        if usage := event.get("usage"):
            self._reported = usage
        choices = event.get("choices") or []
        if not choices:
            return Step()
        choice = choices[0]
        text = self._text_of(choice)
        if word := choice.get("finish_reason"):
            self.finish = finish_of(word)
        return self._step(text)

    def end(self) -> Step:
        """The calls, and as many tokens as the server counted beyond the pieces that it sent."""
        text = self._close_reasoning() + "".join(map(_call_text, self._calls.values()))
        missing = self.usage().completion_tokens - self._pieces
        self._pieces += max(missing, 0)
        return Step([ANY_TOKEN] * max(missing, 0), text or None)

    def usage(self) -> EngineUsage:
        """The server's counts; pieces where it gives none."""
        reported = self._reported or {}
        details = reported.get("prompt_tokens_details") or {}
        return EngineUsage(
            int(reported.get("prompt_tokens") or 0),
            max(int(reported.get("completion_tokens") or 0), self._pieces),
            int(details.get("cached_tokens") or 0),
        )

    def handover(self) -> None:
        """Such servers hand nothing over."""
        return

    def _text_of(self, choice: dict[str, Any]) -> str:
        said = choice.get("delta") or choice.get("message")
        if said is None:
            return str(choice.get("text") or "")
        text = ""
        if reasoning := said.get("reasoning_content") or said.get("reasoning"):
            text = ("" if self._thinking else "<think>") + str(reasoning)
            self._thinking = True
        if content := said.get("content"):
            text += self._close_reasoning() + str(content)
        for place, call in enumerate(said.get("tool_calls") or []):
            self._take_call(call.get("index", place), call.get("function") or {})
        return text

    def _close_reasoning(self) -> str:
        if not self._thinking:
            return ""
        self._thinking = False
        return "</think>"

    def _take_call(self, index: int, function: dict[str, Any]) -> None:
        call = self._calls.setdefault(index, {"name": "", "arguments": ""})
        call["name"] += function.get("name") or ""
        arguments = function.get("arguments") or ""
        call["arguments"] += arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()

    def _step(self, text: str) -> Step:
        if not text:
            return Step()
        self._pieces += 1
        return Step([ANY_TOKEN], text)


def _call_text(call: dict[str, str]) -> str:
    try:
        arguments: Any = msgspec.Raw(msgspec.json.encode(msgspec.json.decode(call["arguments"] or "{}")))
    except msgspec.DecodeError:
        arguments = call["arguments"]  # cut off: shown as the model wrote it
    body = msgspec.json.encode({"name": call["name"], "arguments": arguments}).decode()
    return f"<tool_call>\n{body}\n</tool_call>"

"""How the reasoning of earlier assistant turns gets into a prompt, and which template variables turn thinking on."""

import re
from collections.abc import Mapping
from typing import Any

from appliance.preprocess.messages import Message
from appliance.preprocess.reasoning.families import THINK, Family, Retention, family

REASONING = "reasoning_content"
_NOT_REASONING = Family(retention=Retention.DROP)
"""What is assumed of a model without a reasoning parser."""


def holds_calls_or_reasoning(messages: list[Message]) -> bool:
    """Whether a turn has what prompts need in another form; few conversations have."""
    for message in messages:  # noqa: SIM110 -- a generator takes twice as long
        if "tool_calls" in message or REASONING in message:
            return True
    return False


def prepare_history(
    messages: list[Message], *, template_source: str | None, reasoning_parser: str | None
) -> list[Message]:
    """Messages whose reasoning is where the template finds it; the given ones are not changed.

    `reasoning_content` of an assistant's turn is a text, or a list of texts: one in front of each tool call and one
    after them. A turn that reasons between its calls becomes one turn for each, in the order generated. Then a
    template that reads `reasoning_content` gets it untouched. For others it is put in front of the content between
    the model's marks, or dropped, as is best for the family.

    Raises `UsageError` for an unknown parser name.
    """
    known = family(reasoning_parser) if reasoning_parser else _NOT_REASONING
    if not any(REASONING in message for message in messages):
        return messages
    rules = _Rules(template_source or "", known)
    last_user = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    prepared: list[Message] = []
    for index, message in enumerate(messages):
        if REASONING in message and message.get("role") == "assistant":
            prepared += rules.place(message, since_user=index > last_user)
        else:
            prepared.append(message)
    return prepared


def thinking_args(reasoning_parser: str | None, thinking: bool | None) -> dict[str, Any]:
    """Template variables for a request that turns thinking on, off, or (None) says nothing of it.

    With a reasoning parser thinking is on unless turned off, and templates are asked to keep the reasoning of earlier
    turns. Raises `UsageError` for an unknown parser name.
    """
    if not reasoning_parser:
        return {"enable_thinking": True} if thinking else {}
    args: dict[str, Any] = {"enable_thinking": thinking is not False}
    if thinking is not False:
        args["truncate_history_thinking"] = False
    further = family(reasoning_parser).thinking_argument
    if further is not None:
        args[further] = thinking is not False
    return args


def _split_turn(message: Message) -> list[Message]:
    """Turns with one text of reasoning each: one for every call that was reasoned about separately."""
    spans = message[REASONING]
    if not isinstance(spans, list):
        return [message]
    texts = [span if isinstance(span, str) else "" for span in spans]
    calls = message.get("tool_calls") or []
    if len(calls) < 2:
        return [{**message, REASONING: _join(texts)}]
    starts = [0, *(i for i in range(1, len(calls)) if i < len(texts) and texts[i])]
    turns = []
    for start, end in zip(starts, [*starts[1:], len(calls)], strict=True):
        last = end == len(calls)
        reasoning = _join(texts[start:] if last else texts[start:end])
        turn = {**message, "tool_calls": calls[start:end], REASONING: reasoning}
        turns.append(turn if start == 0 else {**turn, "content": ""})
    return turns


def _join(texts: list[str]) -> str:
    return "\n".join(text for text in texts if text)


class _Rules:
    """What one template and one family make of an assistant's turn."""

    def __init__(self, template: str, known: Family) -> None:
        marks = known.marks or THINK
        self._opening, self._closing = marks.opens[0], marks.closes[0]
        self._retention = known.retention
        self._reads_reasoning = REASONING in template
        self._reads_thinking = "<|channel|>analysis" in template and "message.thinking" in template
        """Templates of gpt-oss have another name for reasoning."""
        if any(_splits_at(template, mark) for mark in marks.closes):
            self._retention = Retention.KEEP  # the template drops what it does not want

    def place(self, message: Message, *, since_user: bool) -> list[Message]:
        """The turns that the message becomes; `since_user`: no user's message follows it."""
        kept = self._retention is Retention.KEEP or (self._retention is Retention.KEEP_SINCE_USER and since_user)
        if self._reads_reasoning:
            return _split_turn(message)
        if kept or self._reads_thinking:
            return [self._place_text(turn) for turn in _split_turn(message)]
        return [_without_reasoning(message)]

    def _place_text(self, turn: Message) -> Message:
        rest, reasoning = _without_reasoning(turn), turn[REASONING]
        if not isinstance(reasoning, str) or not reasoning:
            return rest
        if self._reads_thinking:
            return _with_thinking(rest, reasoning)
        return {**rest, "content": _prefixed(turn.get("content"), self._opening + reasoning + self._closing)}


def _splits_at(template: str, mark: str) -> bool:
    """Whether a template looks for a mark in contents; many only write one where the answer begins."""
    quoted = re.escape(mark)
    return re.search(rf"""split\(\s*['"]{quoted}|(['"]){quoted}\1\s+in\b""", template) is not None


def _without_reasoning(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != REASONING}


def _with_thinking(message: Message, reasoning: str) -> Message:
    """These templates refuse a turn that has calls, content and thinking; the content then is the thinking."""
    return message if message.get("tool_calls") and message.get("content") else {**message, "thinking": reasoning}


def _prefixed(content: Any, text: str) -> Any:
    """Content with text in front, in the first part when it has parts."""
    if not isinstance(content, list):
        return text + (content or "")
    first = content[0] if content else None
    if isinstance(first, Mapping) and isinstance(first.get("text"), str):
        return [{**first, "text": text + first["text"]}, *content[1:]]
    return [{"type": "text", "text": text}, *content]

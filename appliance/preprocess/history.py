"""How the reasoning of earlier assistant turns gets into a prompt, and which template variables turn thinking on."""

from collections.abc import Mapping
from typing import Any

from appliance.preprocess.messages import Message
from appliance.preprocess.reasoning.families import THINK, Family, Retention, family
from appliance.preprocess.reasoning.marks import Marks

REASONING = "reasoning_content"
_NOT_REASONING = Family(retention=Retention.DROP)
"""What is assumed of a model without a reasoning parser."""


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
    last_user = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    prepared: list[Message] = []
    for index, message in enumerate(messages):
        if REASONING not in message or message.get("role") != "assistant":
            prepared.append(message)
            continue
        retention = _retention(template_source or "", known, since_user=index > last_user)
        prepared += [_place_reasoning(turn, template_source or "", known, retention) for turn in _split_turn(message)]
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


def _retention(template: str, known: Family, *, since_user: bool) -> Retention:
    """KEEP or DROP for one turn."""
    if REASONING in template or any(mark in template for mark in _marks(known).closes):
        return Retention.KEEP  # the template drops what it does not want
    if known.retention is Retention.KEEP_SINCE_USER:
        return Retention.KEEP if since_user else Retention.DROP
    return known.retention


def _place_reasoning(turn: Message, template: str, known: Family, retention: Retention) -> Message:
    if REASONING in template:
        return turn
    rest = {key: value for key, value in turn.items() if key != REASONING}
    reasoning = turn[REASONING]
    if not isinstance(reasoning, str) or not reasoning:
        return rest
    if _reads_thinking(template):
        return _with_thinking(rest, reasoning)
    if retention is Retention.DROP:
        return rest
    marks = _marks(known)
    return {**rest, "content": _prefixed(turn.get("content"), marks.opens[0] + reasoning + marks.closes[0])}


def _marks(known: Family) -> Marks:
    return known.marks or THINK


def _reads_thinking(template: str) -> bool:
    """Whether this is a template of gpt-oss, which has another name for reasoning."""
    return "<|channel|>analysis" in template and "message.thinking" in template


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

"""System text, turns and tools as chat templates want them: plain dicts with roles, texts, reasoning and calls."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from appliance.core.errors import InvalidRequest
from appliance.frontend.protocols.anthropic.schema import Block, Content, Message, PromptFields, Tool

BILLING_HEADER = "x-anthropic-billing-header:"
"""Begins a line that coding agents put in front of the system text; it changes often and spoils prefix reuse."""

Turn = dict[str, Any]


def template_messages(body: PromptFields, *, strip_preamble: bool = False) -> list[Turn]:
    """The conversation, system text first. Neighbours of one role are one turn, as Anthropic has it.

    Raises `InvalidRequest` for blocks that no text model can take, or that lack a member.
    """
    names = _CallNames()
    turns = list(_system(body.system, strip_preamble=strip_preamble))
    for role, run in groupby(enumerate(body.messages), key=lambda entry: entry[1].role):
        blocks = [found for index, message in run for found in _located(message, index)]
        if role == "assistant":
            turns += _assistant(blocks, names)
        elif role == "user":
            turns += _user(blocks, names)
        else:
            turns.append({"role": "system", "content": _joined_text(blocks)})
    return turns


def template_tools(body: PromptFields) -> list[dict[str, Any]] | None:
    """The tools that the template should show: none when the caller forbids calls.

    Raises `InvalidRequest` for a tool that Anthropic's servers or models bring along, or without name or schema.
    """
    shown = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(body.tools or ())]
    forbidden = body.tool_choice is not None and body.tool_choice.type == "none"
    return None if forbidden or not shown else shown


Located = tuple[str, Block]
"""A block and its path, for messages about it."""


class _CallNames:
    """Names of the calls seen so far, by id: some templates show them beside a call's result."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, call_id: str, name: str) -> None:
        self._names[call_id] = name

    def result(self, call_id: str, text: str) -> Turn:
        turn: Turn = {"role": "tool", "tool_call_id": call_id, "content": text}
        return {**turn, "name": self._names[call_id]} if call_id in self._names else turn


class _AssistantTurns:
    """Puts the blocks of one assistant turn together.

    Chat messages have their text in front of their calls, so text behind a call begins another message. Reasoning
    is kept in spans: one in front of each call and one behind the last.
    """

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._begin("")

    def think(self, text: str) -> None:
        self._spans[-1] = f"{self._spans[-1]}\n{text}" if self._spans[-1] else text

    def say(self, text: str) -> None:
        if not self._calls:
            self._texts.append(text)
        elif text.strip():
            span = self._spans.pop()
            self._spans.append("")
            self.end()
            self._begin(span)
            self._texts.append(text)

    def call(self, call: dict[str, Any]) -> None:
        self._calls.append(call)
        self._spans.append("")

    def end(self) -> None:
        turn: Turn = {"role": "assistant", "content": "".join(self._texts)}
        if self._calls:
            turn["tool_calls"] = self._calls
        if any(self._spans):
            turn["reasoning_content"] = self._spans if self._calls else self._spans[0]
        self.turns.append(turn)

    def _begin(self, span: str) -> None:
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._spans = [span]


def _system(system: Content | None, *, strip_preamble: bool) -> Iterator[Turn]:
    if not system:
        return
    blocks = [(f"system[{n}]", block) for n, block in enumerate(system)] if isinstance(system, list) else []
    text = system if isinstance(system, str) else _joined_text(blocks)
    if strip_preamble and text.startswith(BILLING_HEADER):
        text = text.partition("\n")[2]
    if text:
        yield {"role": "system", "content": text}


def _located(message: Message, index: int) -> Iterable[Located]:
    if isinstance(message.content, str):
        return [(f"messages[{index}].content", Block(type="text", text=message.content))]
    return [(f"messages[{index}].content[{n}]", block) for n, block in enumerate(message.content)]


def _user(blocks: Sequence[Located], names: _CallNames) -> Iterator[Turn]:
    """Results of calls first, then what the user says."""
    for path, block in blocks:
        if block.type == "tool_result":
            yield names.result(_member(block, "tool_use_id", path), _result_text(block, path))
    texts = [_text(block, path) for path, block in blocks if block.type != "tool_result"]
    if len(texts) == 1:
        yield {"role": "user", "content": texts[0]}
    elif texts or not blocks:
        yield {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


def _assistant(blocks: Sequence[Located], names: _CallNames) -> list[Turn]:
    made = _AssistantTurns()
    for path, block in blocks:
        if block.type == "thinking":
            made.think(_member(block, "thinking", path))
        elif block.type == "tool_use":
            call_id, name = _member(block, "id", path), _member(block, "name", path)
            names.add(call_id, name)
            function = {"name": name, "arguments": block.input or {}}
            made.call({"id": call_id, "type": "function", "function": function})
        elif block.type != "redacted_thinking":  # nobody here can read it
            made.say(_text(block, path))
    made.end()
    return made.turns


def _result_text(block: Block, path: str) -> str:
    content = block.content
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):
        raise InvalidRequest(f"{path}.content must be a string or a list of blocks", param=f"{path}.content")
    return _joined_text((f"{path}.content[{n}]", inner) for n, inner in enumerate(content))


def _joined_text(blocks: Iterable[Located]) -> str:
    return "\n".join(_text(block, path) for path, block in blocks)


def _text(block: Block, path: str) -> str:
    if block.type != "text":
        raise InvalidRequest(f"{path}: this model takes text here, not {block.type!r}", param=path)
    return _member(block, "text", path)


def _member(block: Block, name: str, path: str) -> str:
    value: str | None = getattr(block, name)
    if value is None:
        raise InvalidRequest(f"{path}.{name} is required", param=f"{path}.{name}")
    return value


def _tool(tool: Tool, path: str) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise InvalidRequest(
            f"{path}: there is no tool {tool.type!r} here; only tools with an input_schema of yours", param=path
        )
    if not tool.name:
        raise InvalidRequest(f"{path}.name must not be empty", param=f"{path}.name")
    if tool.input_schema is None:
        raise InvalidRequest(f"{path}.input_schema is required", param=f"{path}.input_schema")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}

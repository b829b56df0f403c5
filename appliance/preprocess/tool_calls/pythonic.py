"""The format of Llama 4: a list of Python calls with keyword arguments that are literals. Nothing is evaluated."""

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

from appliance.preprocess.tool_calls.grammar import Grammar
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import Steps
from appliance.preprocess.tool_calls.source import Source
from appliance.preprocess.tool_calls.splitters import Malformed, PythonSplitter

_JSON_NAMES = {"true": True, "false": False, "null": None}
_OPEN, _CLOSE, _COMMA = Markers("["), Markers("]"), Markers(",")
_TOKEN = re.compile(r"""\"(?:\\.|[^"\\])*\"|'(?:\\.|[^'\\])*'|[()\[\]{},]""", re.DOTALL)
_DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_KEYWORD = re.compile(r"\s*([^\W\d]\w*)\s*=(.*)", re.DOTALL)


class Pythonic(Grammar):
    """`[name(key=value), ...]`. In the middle of a line only the request's own tools are calls, all else is prose."""

    starts = Markers("[", "<|python_start|>")
    _ends = Markers("<|python_end|>")
    _name = re.compile(r"[\w.\-]+")

    def block(self, source: Source, marker: str) -> Steps[None]:
        """See `Grammar`."""
        may_be_unknown = marker != "[" or source.opened_line
        if marker != "[":
            yield from source.one_of(_OPEN)
        yield from self._call(source, may_be_unknown)
        while (yield from source.peek()) != "]":
            yield from source.one_of(_COMMA)
            if (yield from source.peek()) != "]":
                yield from self._call(source, may_be_unknown)
        yield from source.one_of(_CLOSE)
        source.commit()
        if marker != "[":
            yield from source.closing(self._ends)

    def _call(self, source: Source, may_be_unknown: bool) -> Steps[None]:
        yield from source.peek()
        name = yield from source.take_while(self._name)
        if not may_be_unknown and not self.calls.knows(self.calls.plain_name(name)):
            raise Malformed
        if (yield from source.peek()) != "(":
            raise Malformed
        raw = yield from source.take_value(PythonSplitter())
        source.emit(self.calls.call(name, read_arguments(raw)))


def read_arguments(text: str) -> dict[str, Any]:
    """The keyword arguments between round brackets, in order. Raises `Malformed`."""
    arguments: dict[str, Any] = {}
    for segment in _segments(text):
        found = _KEYWORD.fullmatch(segment)
        if found is None:
            raise Malformed
        arguments[found[1]] = _literal(_expression(found[2]))
    return arguments


def _segments(text: str) -> Iterator[str]:
    """What stands between the commas. Python's own parser would refuse arguments called `from` or `class`."""
    depth, start = 0, 1
    for found in _TOKEN.finditer(text):
        depth += _DEPTH.get(found.group(), 0)
        if not depth or (depth == 1 and found.group() == ","):
            segment = text[start : found.start()]
            start = found.end()
            if depth or segment.strip():  # a comma may follow the last argument
                yield segment


def _expression(text: str) -> ast.expr:
    if not text.strip():
        raise Malformed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know, such as those of a search pattern
            return ast.parse(f"({text})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Malformed from error


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _literal(value) for key, value in zip(keys, values, strict=True)}
        case _:
            raise Malformed


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise Malformed

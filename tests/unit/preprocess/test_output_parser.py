"""Reasoning, text and calls come in the order generated."""

import pytest

from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.preprocess.output_parser import OutputParser
from appliance.preprocess.reasoning import make_reasoning_parser
from tests.fakes.tool_calls import BracketCalls
from tests.helpers.pieces import cuttings, merged, parse


def reasoning(text: str) -> OutputPart:
    return ReasoningPart(text)


def text(text: str) -> OutputPart:
    return TextPart(text)


def call(index: int, name: str) -> OutputPart:
    return ToolCallPart(index=index, id="id", name=name, arguments="{}")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("<think>a</think>b[[f]]c", [reasoning("a"), text("b"), call(0, "f"), text("c")]),
        (
            "<think>a</think>[[f]]<think>b</think>[[g]]",
            [reasoning("a"), call(0, "f"), reasoning("b"), call(1, "g")],
        ),
        ("<think>[[f]]</think>ok", [reasoning("[[f]]"), text("ok")]),
        ("a[<think>b</think>[f]]", [text("a["), reasoning("b"), text("[f]]")]),
        ("a[[f<think>b</think>]]c", [text("a"), reasoning("b"), call(0, "f"), text("c")]),
        ("<think>a", [reasoning("a")]),
        ("a[", [text("a[")]),
        ("a<thi", [text("a<thi")]),
        ("", []),
    ],
)
def test_parts_for_any_cutting(output: str, expected: list[OutputPart]) -> None:
    for pieces in cuttings(output):
        parser = OutputParser(make_reasoning_parser("basic"), BracketCalls())
        assert merged([*parse(parser.push, pieces), *parser.finish(truncated=False)]) == expected, pieces


def test_without_parsers_all_is_text() -> None:
    parser = OutputParser(None, None)
    assert parser.push("<think>[[f]]") == [TextPart("<think>[[f]]")]
    assert parser.push("") == []
    assert parser.finish(truncated=False) == []


def test_without_a_tool_parser_reasoning_is_split_off() -> None:
    parser = OutputParser(make_reasoning_parser("basic"), None)
    assert parser.push("<think>a</think>[[f]]<") == [ReasoningPart("a"), TextPart("[[f]]")]
    assert parser.finish(truncated=False) == [TextPart("<")]


def test_without_a_reasoning_parser_calls_are_found() -> None:
    parser = OutputParser(None, BracketCalls())
    assert parser.push("<think>[[f]]x[") == [TextPart("<think>"), call(0, "f"), TextPart("x")]
    assert parser.finish(truncated=False) == [TextPart("[")]


@pytest.mark.parametrize(("truncated", "expected"), [(True, []), (False, [TextPart("[[f")])])
def test_the_tool_parser_learns_of_a_cut(truncated: bool, expected: list[OutputPart]) -> None:
    parser = OutputParser(None, BracketCalls())
    assert parser.push("[[f") == []
    assert parser.finish(truncated=truncated) == expected


def test_text_held_for_a_mark_reaches_the_tool_parser_at_the_end() -> None:
    parser = OutputParser(make_reasoning_parser("kimi"), BracketCalls())
    assert parser.push("a[◁") == [TextPart("a")]
    assert parser.finish(truncated=False) == [TextPart("[◁")]

"""Reasoning parsers give the same for any cutting of any text, lose nothing, and can be replayed."""

import re

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.output import OutputPart, ReasoningPart, TextPart
from appliance.preprocess.output_parser import OutputParser
from appliance.preprocess.reasoning import REASONING_PARSERS, make_reasoning_parser
from appliance.preprocess.reasoning.families import FAMILIES
from appliance.preprocess.reasoning.harmony import HEADER_CHARS
from appliance.preprocess.reasoning.marks import Marks
from tests.fakes.tool_calls import BracketCalls
from tests.helpers.pieces import merged, parse

MARKS = [
    mark for known in FAMILIES.values() if known.marks is not None for mark in (*known.marks.opens, *known.marks.closes)
]
HARMONY = ["<|start|>", "assistant", "<|channel|>", "analysis", "final", "commentary", " to=functions.f", "<|message|>"]
ENDINGS = ["<|end|>", "<|call|>", "<|return|>", "<|constrain|>json", "x" * HEADER_CHARS, "[[f]]", "[", "[["]
TEXTS = st.lists(st.sampled_from(sorted({*MARKS, *HARMONY, *ENDINGS})) | st.text(max_size=4), max_size=12).map("".join)
NAMES = st.sampled_from(REASONING_PARSERS)
STARTS = st.sampled_from([None, True, False])


@st.composite
def pieces(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def split(name: str, pieces: list[str], starts_inside: bool | None) -> list[OutputPart]:
    parser = make_reasoning_parser(name, starts_inside=starts_inside)
    parts = parse(parser.push, pieces)
    return merged([*parts, *parser.finish()])


@given(name=NAMES, pieces=pieces(), starts_inside=STARTS)
def test_any_cutting_gives_the_same(name: str, pieces: list[str], starts_inside: bool | None) -> None:
    text = "".join(pieces)
    whole = split(name, [text], starts_inside)
    assert split(name, pieces, starts_inside) == whole
    assert split(name, list(text), starts_inside) == whole
    assert all(not isinstance(part, TextPart | ReasoningPart) or part.text for part in whole)


@given(name=NAMES.filter(lambda name: FAMILIES[name].marks), text=TEXTS, starts_inside=st.booleans())
def test_marked_text_is_split_like_by_hand(name: str, text: str, starts_inside: bool) -> None:
    marks = FAMILIES[name].marks
    assert marks is not None
    assert split(name, [text], starts_inside) == by_hand(marks, text, starts_inside)


def by_hand(marks: Marks, text: str, inside: bool) -> list[OutputPart]:
    """The same for a whole text, with regular expressions."""
    opens, closes = ("|".join(map(re.escape, some)) for some in (marks.opens, marks.closes))
    if inside:
        text = re.sub(rf"\A(\s*)(?:{opens})", r"\1", text)
    parts: list[OutputPart] = []
    while text:
        before, *after = re.split(closes if inside else opens, text, maxsplit=1)
        parts += [ReasoningPart(before) if inside else TextPart(before)] if before else []
        if inside and after and marks.once:
            return merged([*parts, *([TextPart(after[0])] if after[0] else [])])
        text, inside = "".join(after), not inside
    return merged(parts)


@given(name=NAMES, pieces=pieces(), starts_inside=STARTS)
def test_all_parts_for_any_cutting(name: str, pieces: list[str], starts_inside: bool | None) -> None:
    def run(pieces: list[str]) -> list[OutputPart]:
        parser = OutputParser(make_reasoning_parser(name, starts_inside=starts_inside), BracketCalls())
        return merged([*parse(parser.push, pieces), *parser.finish(truncated=False)])

    assert run(pieces) == run(["".join(pieces)])


@given(name=NAMES, pieces=pieces(), more=pieces())
def test_a_fresh_parser_goes_on_after_replay(name: str, pieces: list[str], more: list[str]) -> None:
    """What the second worker's text adds is the same as if the first one had gone on."""
    first = OutputParser(make_reasoning_parser(name), BracketCalls())
    for piece in pieces:
        first.push(piece)
    second = OutputParser(make_reasoning_parser(name), BracketCalls())
    second.push("".join(pieces))
    for piece in more:
        assert first.push(piece) == second.push(piece)
    assert first.finish(truncated=True) == second.finish(truncated=True)


@given(
    name=st.sampled_from(["basic", "gemma4", "granite", "kimi", "gpt_oss"]),
    text=st.text(alphabet="<| >thinkHere◁[", max_size=30),
)
def test_text_without_whole_marks_is_shown(name: str, text: str) -> None:
    if not any(mark in text for mark in MARKS):
        assert split(name, list(text), None) == ([TextPart(text)] if text else [])

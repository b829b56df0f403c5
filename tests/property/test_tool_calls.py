"""Tool calls survive any mixture with text under any cut, and nothing makes a parser stumble."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.output import TextPart, ToolCallPart
from appliance.preprocess.tool_calls import make_tool_parser
from tests.helpers.tool_formats import FORMATS, NAMES, TOOLS, Format, Seen, compact, join, parse, seen

every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.parser}-{form.starts[0]}")

WORDS = st.text(alphabet="ab ÿ😀.,:;!?\n", max_size=12)
STRINGS = st.text(alphabet="ab ÿ😀.,:;()[]{}&\"'\\`/\n=", max_size=12).map(lambda text: f"«{text}»")
KEYS = st.text(alphabet="abc", min_size=1, max_size=3)
INTEGERS = st.integers(-(10**6), 10**6)
NESTED = st.recursive(
    STRINGS | INTEGERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "city": STRINGS,
        "days": INTEGERS,
        "sure": st.booleans(),
        "where": st.dictionaries(KEYS, NESTED, max_size=3),
        "list": st.lists(NESTED, max_size=3),
        "name": STRINGS,
    },
)
CALLS = st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), min_size=1, max_size=3)
STEPS = st.lists(st.integers(1, 9), min_size=1, max_size=20)


def pieces(text: str, steps: list[int]) -> list[str]:
    """The text in pieces whose lengths repeat `steps`."""
    found: list[str] = []
    at = 0
    while at < len(text):
        found.append(text[at : at + steps[len(found) % len(steps)]])
        at += len(found[-1])
    return found


@every_format
@settings(max_examples=40)
@given(mixture=st.lists(WORDS | CALLS, max_size=4), steps=STEPS)
def test_what_was_written_is_read(form: Format, mixture: list[Any], steps: list[int]) -> None:
    text, expected = "", list[Seen]()
    for item in mixture:
        if not isinstance(item, str):
            text += form.write(item)
            expected += [(name, compact(arguments)) for name, arguments in item]
        item = item if isinstance(item, str) else "§"  # two llama blocks need something between them
        text += item
        if item and expected and isinstance(expected[-1], str):
            expected[-1] += item
        elif item:
            expected.append(item)
    assert seen(parse(form.parser, iter(pieces(text, steps)))) == expected


@every_format
@settings(max_examples=40)
@given(text=st.text(alphabet="abft <>|/{}()=\"'\n:", max_size=60), steps=STEPS)
def test_text_without_markers_comes_back(form: Format, text: str, steps: list[int]) -> None:
    assert "".join(map(str, seen(parse(form.parser, iter(pieces(text, steps)))))) == text


@every_format
@settings(max_examples=60)
@given(data=st.data(), calls=CALLS, steps=STEPS, truncated=st.booleans())
def test_damage_never_raises_and_any_cut_reads_it_alike(
    form: Format, data: st.DataObject, calls: list[Any], steps: list[int], truncated: bool
) -> None:
    text = form.write(calls) * 2
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 8)))
        text = text[:start] + data.draw(st.text(alphabet='<>|{}[]()"\\a=\x00\ud800', max_size=3)) + text[end:]
    parts = parse(form.parser, iter(pieces(text, steps)), truncated=truncated)
    assert parts == parse(form.parser, iter([text]), truncated=truncated)
    for part in parts:
        assert not isinstance(part, ToolCallPart) or part.arguments.encode()


@every_format
@settings(max_examples=40)
@given(data=st.data(), before=WORDS, calls=CALLS, after=WORDS, truncated=st.booleans())
def test_a_stream_moves_by_replaying_its_text(
    form: Format, data: st.DataObject, before: str, calls: list[Any], after: str, truncated: bool
) -> None:
    text = before + form.write(calls) + after
    place = data.draw(st.integers(0, len(text)))
    old = make_tool_parser(form.parser, TOOLS, new_id=lambda: "id")
    new = make_tool_parser(form.parser, TOOLS, new_id=lambda: "id")
    for char in text[:place]:
        old.push(char)
    new.push(text[:place])
    assert join(old.push(text[place:])) == join(new.push(text[place:]))
    assert old.finish(truncated=truncated) == new.finish(truncated=truncated)


@every_format
@given(text=WORDS)
def test_plain_text_is_not_held_back(form: Format, text: str) -> None:
    parser = make_tool_parser(form.parser, TOOLS)
    shown = join([part for char in text for part in parser.push(char)])
    assert shown == ([TextPart(text)] if text else [])

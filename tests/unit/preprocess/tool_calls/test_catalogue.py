"""The cases that every format has to stand, written by the format's own writer."""

from random import Random

import pytest

from appliance.preprocess.tool_calls import TOOL_PARSERS
from tests.helpers.tool_formats import FORMATS, Call, Format, Seen, compact, cut, parse, seen

every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.parser}-{form.starts[0]}")

RICH: Call = (
    "get_weather",
    {
        "name": "not the function's",
        "city": 'Zürich 😀 {[(",;)]} \\ `x` "quoted" \'too\'',
        "days": -3,
        "share": 0.25,
        "sure": True,
        "where": {"b": [1, {"a": None}], "a": {}},
        "list": [],
        "nothing": None,
    },
)


def check(form: Format, text: str, expected: list[Seen], *, truncated: bool = False) -> None:
    splits = [cut(text, 1), cut(text, 3), cut(text, None), *(cut(text, None, Random(seed)) for seed in range(4))]
    results = [parse(form.parser, pieces, truncated=truncated) for pieces in splits]
    assert seen(results[2]) == expected
    assert all(result == results[2] for result in results)


def as_seen(*calls: Call) -> list[Seen]:
    return [(name, compact(arguments)) for name, arguments in calls]


def test_every_parser_has_a_writer() -> None:
    aliases = {"qwen25", "nemotron_nano", "deepseek-v4", "deepseekv4", "gemma-4"}
    assert {form.parser for form in FORMATS} == set(TOOL_PARSERS) - aliases


@every_format
def test_one_call_keeps_values_and_their_order(form: Format) -> None:
    check(form, form.write([RICH]), as_seen(RICH))


@every_format
def test_parallel_and_equal_calls(form: Format) -> None:
    calls = [RICH, ("get-time", {"days": 1}), ("get-time", {"days": 1})]
    check(form, form.write(calls), as_seen(*calls))


@every_format
def test_no_arguments_and_unknown_functions(form: Format) -> None:
    calls: list[Call] = [("never.heard-of_it", {}), ("f", {})]
    check(form, form.write(calls), as_seen(*calls))


@every_format
def test_text_before_between_and_after(form: Format) -> None:
    one, two = ("f", {"days": 1}), ("f", {"days": 2})
    text = f"before  {form.write([one])}\n between {form.write([two])}\n after \n"
    check(form, text, ["before  ", *as_seen(one), "\n between ", *as_seen(two), "\n after \n"])


@every_format
def test_text_without_calls_is_unchanged(form: Format) -> None:
    for start in form.starts:
        text = f" [1] <b>, f(x)[0] {{}} {start[:-1]} {start[:3]}\n[] <|x|> </tool> "
        check(form, text, [text])


@every_format
def test_a_block_that_is_no_call_stays_text_and_hides_none_behind_it(form: Format) -> None:
    good = ("f", {"days": 2})
    bad = f"{form.starts[0]}\u00a7 no call\n"
    check(form, bad + form.write([good]), [bad, *as_seen(good)])


@every_format
@pytest.mark.parametrize("truncated", [True, False], ids=["limit", "stop"])
def test_a_cut_call_is_whole_or_no_call(form: Format, truncated: bool) -> None:
    call = ("get_weather", {"days": 3} if form.parser == "glm47" else {"city": "Oslo", "days": 3})
    block = form.write([call])  # GLM has no mark between its last argument and the end: one argument, one answer
    for end in range(len(block)):
        found = seen(parse(form.parser, cut("so " + block[:end], 1), truncated=truncated))
        if found == ["so ", *as_seen(call)]:
            continue
        [text] = found
        assert isinstance(text, str)
        shown = text.removeprefix("so ")
        if truncated:
            assert any(start.startswith(shown) and start != shown for start in form.starts)
        else:
            assert shown == block[:end]


@every_format
def test_a_cut_call_does_not_harm_the_ones_before_it(form: Format) -> None:
    calls: list[Call] = [("f", {"days": 1}), ("get_weather", {"city": "Oslo", "days": 3})]
    block = form.write(calls)
    cut_inside = block.index("Oslo") + 2
    check(form, block[:cut_inside], as_seen(calls[0]), truncated=True)


@every_format
def test_a_whole_call_needs_no_closing_marker(form: Format) -> None:
    call = ("get_weather", {"city": "Oslo", "days": 3})
    block = form.write([call])
    while seen(parse(form.parser, cut(block, None))) == as_seen(call):
        block = block[:-1]
    assert (
        block.rstrip()
        .removesuffix("</arg_value")
        .rstrip()
        .endswith(("3", "3}", "3)", "</function", "</invoke", "</\uff5cDSML\uff5cinvoke"))
    )


@every_format
def test_long_answers_in_single_characters_take_linear_time(form: Format) -> None:
    call = ("get_weather", {"city": "x<" * 50_000})
    text = "word [ < " * 10_000
    parts = parse(form.parser, cut(text + "\n" + form.write([call]), 1))
    assert seen(parts) == [text + "\n", *as_seen(call)]

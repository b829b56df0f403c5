"""Names, what prompts say of the output, and when a parser shows what it has."""

import pytest

from appliance.core.errors import UsageError
from appliance.core.output import OutputPart, ReasoningPart, TextPart
from appliance.preprocess.reasoning import (
    REASONING_PARSERS,
    make_reasoning_parser,
    needs_special_tokens,
    prompt_opens_reasoning,
    reasoning_at_start,
)
from appliance.preprocess.reasoning.families import FAMILIES
from appliance.preprocess.reasoning.harmony import HEADER_CHARS
from tests.helpers.pieces import cuttings, merged, parse


def test_names_of_upstream_are_known() -> None:
    upstream = (
        "basic deepseek_r1 deepseek_v4 deepseek-v4 deepseekv4 gemma4 gemma-4 glm45 gpt_oss granite kimi kimi_k25 "
        "minimax_append_think mistral nemotron3 nemotron_deci nemotron_nano nemotron_v3 qwen3 step3"
    )
    assert set(REASONING_PARSERS) == set(upstream.split())


@pytest.mark.parametrize("name", ["", "think", "auto"])
def test_unknown_name_tells_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"known are basic, .*step3"):
        make_reasoning_parser(name)


def test_names_are_known_in_any_case() -> None:
    assert make_reasoning_parser("GPT_OSS").push("<|channel|>analysis<|message|>a") == [ReasoningPart("a")]


def test_no_mark_holds_another_one() -> None:
    """Else the result would depend on how text is cut."""
    for known in FAMILIES.values():
        marks = () if known.marks is None else (*known.marks.opens, *known.marks.closes)
        assert [(a, b) for a in marks for b in marks if a != b and a in b] == []


def test_special_tokens_are_needed_where_marks_are_such() -> None:
    assert {name for name in ("gpt_oss", "gemma4", "mistral", "basic", "granite") if needs_special_tokens(name)} == {
        "gpt_oss",
        "gemma4",
        "mistral",
    }


@pytest.mark.parametrize(
    ("name", "prompt", "expected"),
    [
        ("qwen3", "<|im_start|>assistant\n<think>\n", True),
        ("qwen3", "<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("qwen3", "<|im_start|>assistant\n", None),
        ("nemotron_nano", "<SPECIAL_11>Assistant\n<think></think>", False),
        ("kimi", "◁think▷", True),
        ("gemma4", "<|turn>model\n<|channel>thought\n", True),
        ("gemma4", "<|turn>model\n<|channel>thought\n<channel|>", False),
        ("gpt_oss", "<|start|>assistant", None),
        ("gpt_oss", "<|start|>assistant<|channel|>analysis<|message|>", True),
        ("gpt_oss", "<|start|>assistant<|channel|>final<|message|>", False),
        ("minimax_append_think", "]~b]ai\n<think>\n", None),
        ("basic", "", None),
    ],
)
def test_prompt_says_how_output_begins(name: str, prompt: str, expected: bool | None) -> None:
    assert reasoning_at_start(name, prompt) is expected
    assert prompt_opens_reasoning(name, prompt) is (expected is True)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("basic", [("<b", TextPart("<b")), ("<", None), ("think>", None), ("x", ReasoningPart("x"))]),
        ("basic", [("a<", TextPart("a")), ("thin", None), ("g", TextPart("<thing"))]),
        ("deepseek_r1", [("<", None), ("a", ReasoningPart("<a")), ("<think>", ReasoningPart("<think>"))]),
        ("gpt_oss", [("<|channel|>", None), ("final", None), ("<|message|>", None), ("a", TextPart("a"))]),
        ("granite", [("He", None), ("llo", TextPart("Hello")), (" Here", TextPart(" ")), (" we", TextPart("Here we"))]),
    ],
)  # fmt: skip
def test_only_what_may_be_a_mark_is_held_back(name: str, steps: list[tuple[str, OutputPart | None]]) -> None:
    parser = make_reasoning_parser(name)
    assert [parser.push(text) for text, _ in steps] == [[] if part is None else [part] for _, part in steps]


def test_a_long_header_is_text() -> None:
    text = "<|channel|>analysis " + "x" * 600
    parser = make_reasoning_parser("gpt_oss")
    assert parser.push(text) == [TextPart(text)]
    assert parser.push("<|message|>y") == [TextPart("y")]


@pytest.mark.parametrize(("mark", "short"), [("<|message|>", ReasoningPart("y")), ("<|end|>", TextPart("y"))])
@pytest.mark.parametrize("length", [*range(HEADER_CHARS - 3, HEADER_CHARS + 3), 2 * HEADER_CHARS])
def test_the_bound_of_headers_does_not_depend_on_pieces(length: int, mark: str, short: OutputPart) -> None:
    header = "<|channel|>analysis".ljust(length)
    expected = [short] if length < HEADER_CHARS else [TextPart(header + "y")]
    for pieces in cuttings(f"{header}{mark}y"):
        parser = make_reasoning_parser("gpt_oss")
        assert merged([*parse(parser.push, pieces), *parser.finish()]) == expected

"""Where the reasoning of earlier turns goes, by template and family."""

from copy import deepcopy
from typing import Any

import pytest

from appliance.core.errors import UsageError
from appliance.preprocess.history import prepare_history, thinking_args
from appliance.preprocess.template import ChatTemplate

AWARE = "{% for m in messages %}{{ m.role }}:{{ m.reasoning_content }}|{{ m.content }};{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
STRIPPING = "{% for m in messages %}{{ m.content.split('</think>')[-1] }};{% endfor %}"
HARMONY = "<|channel|>analysis<|message|>{% for message in messages %}{{ message.thinking }}{% endfor %}"

Turn = dict[str, Any]


def user(text: str = "q") -> Turn:
    return {"role": "user", "content": text}


def assistant(reasoning: Any, content: Any = "a", calls: int = 0) -> Turn:
    turn: Turn = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    return {**turn, "tool_calls": [{"id": str(i)} for i in range(calls)]} if calls else turn


def folded(reasoning: Any, *, parser: str | None, template: str | None = PLAIN, content: Any = "a") -> Any:
    """Content of one assistant's turn after preparing."""
    (_, turn) = prepare_history(
        [user(), assistant(reasoning, content)], template_source=template, reasoning_parser=parser
    )
    assert "reasoning_content" not in turn
    return turn["content"]


def test_a_template_that_knows_reasoning_gets_it_untouched() -> None:
    messages = [user(), assistant("why"), user()]
    for parser in (None, "qwen3", "deepseek_r1"):
        assert prepare_history(messages, template_source=AWARE, reasoning_parser=parser) == messages


@pytest.mark.parametrize(
    ("parser", "expected"),
    [
        ("basic", "<think>why</think>a"),
        ("nemotron_nano", "<think>why</think>a"),
        ("mistral", "[THINK]why[/THINK]a"),
        ("minimax_append_think", "<think>why</think>a"),
        ("qwen3", "<think>why</think>a"),
        ("deepseek_r1", "a"),
        ("gemma4", "a"),
        ("granite", "a"),
        ("kimi", "a"),
        ("gpt_oss", "a"),
        (None, "a"),
    ],
)
def test_a_plain_template_gets_what_is_best_for_the_family(parser: str | None, expected: str) -> None:
    assert folded("why", parser=parser) == expected
    assert folded("why", parser=parser, template=None) == expected


@pytest.mark.parametrize("parser", [None, "deepseek_r1", "qwen3"])
def test_a_template_that_knows_the_marks_gets_them_and_decides(parser: str | None) -> None:
    messages = [user(), assistant("why"), user("next")]
    prepared = prepare_history(messages, template_source=STRIPPING, reasoning_parser=parser)
    assert prepared[1]["content"] == "<think>why</think>a"
    assert ChatTemplate(STRIPPING, bos_token="", eos_token="").render(prepared) == "q;a;next;"


@pytest.mark.parametrize(
    ("template", "knows"),
    [
        ("{% if '</think>' in message.content %}", True),
        ('{% if "</think>" in content %}', True),
        ('{{ content.split( "</think>" ) }}', True),
        ("{{ '<think>\\n\\n</think>\\n\\n' }}", False),
        ("{{ '</think>' }}", False),
    ],
)
def test_writing_a_mark_is_not_knowing_it(template: str, knows: bool) -> None:
    assert folded("why", parser="deepseek_r1", template=template) == ("<think>why</think>a" if knows else "a")


def test_some_families_keep_reasoning_only_since_the_last_question() -> None:
    tool = {"role": "tool", "content": "42"}
    messages = [user(), assistant("old"), user(), assistant("new", "", calls=1), tool]
    prepared = prepare_history(messages, template_source=PLAIN, reasoning_parser="qwen3")
    assert [turn["content"] for turn in prepared] == ["q", "a", "q", "<think>new</think>", "42"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "<think>why</think>"),
        ("", "<think>why</think>"),
        ([], [{"type": "text", "text": "<think>why</think>"}]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
         [{"type": "text", "text": "<think>why</think>a"}, {"type": "text", "text": "b"}]),
        ([{"type": "image"}], [{"type": "text", "text": "<think>why</think>"}, {"type": "image"}]),
    ],
)  # fmt: skip
def test_any_content_takes_reasoning_in_front(content: Any, expected: Any) -> None:
    assert folded("why", parser="basic", content=content) == expected


@pytest.mark.parametrize("reasoning", ["", None, [], ["", None], 3])
def test_no_reasoning_leaves_no_marks(reasoning: Any) -> None:
    assert folded(reasoning, parser="basic") == "a"


def test_reasoning_stays_next_to_its_call() -> None:
    messages = [user(), assistant(["one", "", "three", "end"], "text", calls=3), {"role": "tool", "content": "r"}]
    prepared = prepare_history(messages, template_source=PLAIN, reasoning_parser="basic")
    assert prepared[1:] == [
        {"role": "assistant", "content": "<think>one</think>text", "tool_calls": [{"id": "0"}, {"id": "1"}]},
        {"role": "assistant", "content": "<think>three\nend</think>", "tool_calls": [{"id": "2"}]},
        {"role": "tool", "content": "r"},
    ]
    aware = prepare_history(messages, template_source=AWARE, reasoning_parser="basic")
    assert [turn.get("reasoning_content") for turn in aware] == [None, "one", "three\nend", None]


def test_a_turn_whose_reasoning_is_dropped_stays_one_turn() -> None:
    messages = [assistant(["one", "two"], "text", calls=2)]
    prepared = prepare_history(messages, template_source=PLAIN, reasoning_parser="deepseek_r1")
    assert prepared == [{"role": "assistant", "content": "text", "tool_calls": [{"id": "0"}, {"id": "1"}]}]


@pytest.mark.parametrize(
    ("spans", "calls", "expected"),
    [
        (["a", "b"], 0, ["a\nb"]),
        (["a", "b"], 1, ["a\nb"]),
        (["a"], 2, ["a"]),
        (["", "b"], 2, ["", "b"]),
        (["a", "b", "c", "d", "e"], 2, ["a", "b\nc\nd\ne"]),
    ],
)
def test_any_number_of_spans(spans: list[str], calls: int, expected: list[str]) -> None:
    prepared = prepare_history([assistant(spans, calls=calls)], template_source=AWARE, reasoning_parser=None)
    assert [turn["reasoning_content"] for turn in prepared] == expected
    assert sum(len(turn.get("tool_calls", [])) for turn in prepared) == calls


def test_gpt_oss_has_another_name_for_reasoning() -> None:
    messages = [assistant("why", "", calls=1), assistant("why", "a"), assistant("why", "a", calls=1)]
    prepared = prepare_history(messages, template_source=HARMONY, reasoning_parser="gpt_oss")
    assert [turn.get("thinking") for turn in prepared] == ["why", "why", None]
    assert not any("reasoning_content" in turn for turn in prepared)


def test_other_messages_and_the_given_ones_stay_as_they_are() -> None:
    messages = [{"role": "user", "content": "q", "reasoning_content": "x"}, assistant(["a", "b"], calls=2)]
    before = deepcopy(messages)
    prepared = prepare_history(messages, template_source=PLAIN, reasoning_parser="basic")
    assert messages == before
    assert prepared[0] == messages[0]


def test_unknown_parser_is_an_error() -> None:
    with pytest.raises(UsageError):
        prepare_history([user()], template_source=None, reasoning_parser="thoughts")


KEEP = {"enable_thinking": True, "truncate_history_thinking": False}


@pytest.mark.parametrize(
    ("parser", "thinking", "expected"),
    [
        (None, None, {}),
        (None, False, {}),
        (None, True, {"enable_thinking": True}),
        ("basic", None, KEEP),
        ("basic", True, KEEP),
        ("basic", False, {"enable_thinking": False}),
        ("granite", True, {**KEEP, "thinking": True}),
        ("kimi_k25", False, {"enable_thinking": False, "thinking": False}),
    ],
)
def test_thinking_arguments(parser: str | None, thinking: bool | None, expected: dict[str, Any]) -> None:
    assert thinking_args(parser, thinking) == expected

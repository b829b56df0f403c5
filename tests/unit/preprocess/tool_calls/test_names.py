"""Which parser a name, a chat template or a model's name gives."""

import pytest

from appliance.core.errors import UsageError
from appliance.core.output import ToolCallPart
from appliance.preprocess.tool_calls import (
    TOOL_PARSERS,
    choose_tool_parser,
    make_tool_parser,
    needs_special_tokens,
)

UPSTREAM = (
    "default hermes qwen25 nemotron_deci nemotron_nano llama3_json mistral phi4 pythonic jamba harmony deepseek_v3 "
    "deepseek_v3_1 deepseek_v3_2 deepseek_v4 deepseek-v4 deepseekv4 qwen3_coder minimax_m2 glm47 kimi_k2 gemma4 gemma-4"
)


def test_all_names_of_upstream_exist() -> None:
    assert set(UPSTREAM.split()) == set(TOOL_PARSERS)
    for name in TOOL_PARSERS:
        assert make_tool_parser(name, None).finish(truncated=False) == []


@pytest.mark.parametrize("name", ["nope", "auto", ""])
def test_an_unknown_name_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"known are deepseek-v4, .*hermes"):
        make_tool_parser(name, None)
    with pytest.raises(UsageError):
        needs_special_tokens(name)


def test_ids_are_made_anew_for_each_call() -> None:
    parser = make_tool_parser("hermes", None)
    parts = parser.push('<tool_call>{"name":"f","arguments":{}}</tool_call>' * 2)
    first, second = (part for part in parts if isinstance(part, ToolCallPart))
    assert first.id.startswith("call-")
    assert len(first.id) == 41
    assert first.id != second.id
    assert (first.index, second.index) == (0, 1)


def test_a_call_comes_before_its_closing_marker_and_text_at_once() -> None:
    parser = make_tool_parser("hermes", None)
    assert [type(part).__name__ for part in parser.push('a<tool_call>{"name":"f","arguments":{}}')] == [
        "TextPart",
        "ToolCallPart",
    ]
    assert parser.push("</tool_call>") == []
    assert len(parser.push(" b")) == 1


def test_special_tokens() -> None:
    assert {name for name in TOOL_PARSERS if not needs_special_tokens(name)} == {
        "hermes",
        "qwen25",
        "qwen3_coder",
        "nemotron_nano",
        "nemotron_deci",
        "phi4",
    }


@pytest.mark.parametrize(
    ("template", "model", "parser"),
    [
        ("... <tool_call>\n{{ call | tojson }}\n</tool_call>", "anything", "hermes"),
        ("<tool_call>\n<function=x>\n<parameter=y>", "Qwen3", "qwen3_coder"),
        ("<tool_call>{{ name }}<arg_key>", "x", "glm47"),
        ("<|python_tag|>", "x", "llama3_json"),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", "x", "mistral"),
        ("<|start|>assistant<|channel|>final<|message|>", "x", "harmony"),
        ("<\uff5ctool\u2581sep\uff5c>{{ name }}\n```json", "x", "deepseek_v3"),
        ("<\uff5ctool\u2581sep\uff5c>", "x", "deepseek_v3_1"),
        ("{{ messages }}", "Meta-Llama-3.1-8B-Instruct", "llama3_json"),
        (None, "org/Kimi-K2-Instruct", "kimi_k2"),
        (None, "DeepSeek_V3.2_Exp", "deepseek_v3_2"),
        (None, "DeepSeek-R1-Distill-Llama-70B", None),
        (None, "tinystories", None),
        ("", "", None),
    ],
)
def test_the_template_decides_before_the_name(template: str | None, model: str, parser: str | None) -> None:
    assert choose_tool_parser(template, model) == parser
    assert parser is None or parser in TOOL_PARSERS

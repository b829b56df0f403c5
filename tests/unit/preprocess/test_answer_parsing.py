"""Which parsers answers go through, what a prompt says about them, and what an engine is asked to keep to."""

from typing import Any

import msgspec
import pytest

from appliance.core.errors import InvalidRequest, UsageError
from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.core.requests import Guided
from appliance.preprocess.answer_parsing import ParserNames, check_parser_names, choose_parsers, plan_parsing
from appliance.preprocess.prepare import PromptBuilder
from appliance.preprocess.template import ChatTemplate
from tests.helpers.tokenizers import demo_tokenizer
from tests.unit.preprocess.test_prepare import CARD, chat, completion

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
HERMES = ParserNames(tools="hermes", reasoning="qwen3")
SAID = '<think>r</think>t<tool_call>{"name":"f","arguments":{}}</tool_call>'
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}{% endfor %}"
    "tools={{ tools | length if tools else 0 }} {% if enable_thinking %}<think>{% endif %}</think>"
)


def parts(request: Any, names: ParserNames = HERMES, prompt: str = "", said: str = SAID) -> list[OutputPart] | None:
    plan = plan_parsing(request, names, prompt)
    if plan is None:
        return None
    parser = plan.make()
    return [*parser.push(said), *parser.finish(truncated=False)]


def kinds(found: list[OutputPart] | None) -> list[type]:
    return [type(part) for part in found or []]


def test_reasoning_and_calls() -> None:
    assert kinds(parts(chat(tools=TOOLS))) == [ReasoningPart, TextPart, ToolCallPart]


@pytest.mark.parametrize("members", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_calls_are_looked_for_only_where_they_may_be(members: dict[str, Any]) -> None:
    assert kinds(parts(chat(**members))) == [ReasoningPart, TextPart]


def test_nothing_is_parsed_of_completions_and_of_constrained_output() -> None:
    assert parts(completion("x")) is None
    assert parts(chat(tools=TOOLS, guided=Guided(regex="a"))) is None
    assert parts(chat(tools=TOOLS), ParserNames()) is None


def test_demanded_calls_are_read_without_a_parser_of_the_model() -> None:
    found = parts(chat(tools=TOOLS, tool_choice="function:f"), ParserNames(reasoning="deepseek_r1"), said='{"a":1}')
    assert [(part.name, part.arguments) for part in found or [] if isinstance(part, ToolCallPart)] == [("f", '{"a":1}')]


def test_a_prompt_that_opens_reasoning() -> None:
    assert parts(chat(), prompt="...<think>\n", said="r</think>t") == [ReasoningPart("r"), TextPart("t")]
    assert parts(chat(), prompt="...<think></think>", said="t") == [TextPart("t")]


def test_special_tokens_are_kept_where_marks_are_such() -> None:
    harmony = plan_parsing(chat(tools=TOOLS), ParserNames(tools="harmony", reasoning="gpt_oss"), "")
    assert harmony is not None
    assert harmony.special_tokens
    plain = plan_parsing(chat(tools=TOOLS), HERMES, "")
    assert plain is not None
    assert not plain.special_tokens


def test_parsers_are_chosen_by_template_name_or_user() -> None:
    template = "<think> <tool_call>"
    assert choose_parsers(None, "auto", template, "m").tools == "hermes"
    assert choose_parsers(None, "auto", template, "m").reasoning is not None
    assert choose_parsers("none", "none", template, "m") == ParserNames()
    assert choose_parsers("mistral", "granite", template, "m") == ParserNames(tools="mistral", reasoning="granite")
    assert choose_parsers(None, None, None, "plain-model") == ParserNames()


@pytest.mark.parametrize(
    ("tools", "reasoning", "hint"),
    [("hermess", None, "'hermes'"), (None, "deepseek-r1", "'deepseek_r1'"), ("x9!", None, "known are auto, none")],
)
def test_unknown_names_are_refused_with_the_nearest(tools: str | None, reasoning: str | None, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        check_parser_names(tools, reasoning)


@pytest.mark.parametrize("name", [None, "auto", "none", "Hermes"])
def test_known_names_pass(name: str | None) -> None:
    check_parser_names(name, None)


def prompts(**card: Any) -> PromptBuilder:
    members = {
        "context_length": 4000,
        "guided": True,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
        **card,
    }
    template = ChatTemplate(TEMPLATE, bos_token="", eos_token="")
    return PromptBuilder(msgspec.structs.replace(CARD, **members), demo_tokenizer(), template)


async def text_of(builder: PromptBuilder, **members: Any) -> str:
    [prepared] = await builder.prepare(chat(**members))
    return prepared.text


async def test_prompts_ask_for_thinking_unless_the_output_is_constrained() -> None:
    builder = prompts()
    assert "<think>" in await text_of(builder)
    assert "<think>" not in await text_of(builder, thinking=False)
    assert "<think>" not in await text_of(builder, guided=Guided(regex="a"))
    assert "<think>" not in await text_of(builder, template_args={"enable_thinking": False})


async def test_calls_of_earlier_turns_have_open_arguments_and_reasoning_comes_back() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "why", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "x"},
    ]
    text = await text_of(prompts(), messages=turns, tools=TOOLS)
    assert "Rome" in text
    assert "<think>why</think>b" in text
    assert "tool: sunny" in text
    assert "tools=1" in text


async def test_a_demanded_call_reaches_the_engine_as_a_constraint() -> None:
    builder = prompts()
    request = chat(tools=TOOLS, tool_choice="function:f")
    [asked] = builder.engine_requests(await builder.prepare(request), request)
    assert asked.guided == Guided(json_schema='{"type":"object"}')


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"guided": Guided(regex="a")}, "response_format"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
    ],
)
async def test_engines_that_cannot_guide_refuse(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot follow a grammar") as caught:
        await prompts(guided=False).prepare(chat(**members))
    assert caught.value.param == param


async def test_two_constraints_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="cannot be both"):
        await prompts().prepare(chat(tools=TOOLS, tool_choice="required", guided=Guided(regex="a")))

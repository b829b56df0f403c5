"""Demanded calls: the schema that constrains the output, and the output read back."""

import itertools
import json
from typing import Any

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.output import OutputPart, TextPart, ToolCallPart
from appliance.engines.llamacpp.json_grammar import json_schema_grammar
from appliance.preprocess.guided_calls import GuidedCalls, call_constraint, is_forced, named_function
from appliance.preprocess.reasoning.parts import joined

CITY = {
    "type": "object",
    "properties": {"where": {"$ref": "#/$defs/place"}, "self": {"$ref": "#/properties/where"}},
    "$defs": {"place": {"type": "string", "maxLength": 9}},
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
]
ARRAY = ' [ {"name": "weather", "parameters": {"b": "]}\\"☃", "a": [1.50, {}]}},\n {"name":"now","parameters":{}} ] '
CALLS: list[OutputPart] = [
    ToolCallPart(0, "id-0", "weather", '{"b":"]}\\"☃","a":[1.5,{}]}'),
    ToolCallPart(1, "id-1", "now", "{}"),
]


def schema_of(choice: str, *, parallel: bool = True) -> Any:
    guided = call_constraint(TOOLS, choice, parallel=parallel)
    assert guided is not None
    assert guided.json_schema is not None
    json_schema_grammar(guided.json_schema)  # the embedded engine can enforce it
    return json.loads(guided.json_schema)


def parse(name: str | None, texts: list[str], *, truncated: bool = False) -> list[OutputPart]:
    ids = (f"id-{number}" for number in itertools.count())
    parser = GuidedCalls(name, new_id=lambda: next(ids))
    parts = [part for text in texts for part in parser.push(text)]
    return joined([*parts, *parser.finish(truncated=truncated)])


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_free_choices_constrain_nothing(choice: str) -> None:
    assert call_constraint(TOOLS, choice, parallel=True) is None
    assert not is_forced(choice)


def test_a_named_function_gives_its_parameters() -> None:
    assert schema_of("function:weather") == CITY
    assert schema_of("function:now") == {"type": "object", "properties": {}, "additionalProperties": False}
    assert (named_function("function:now"), named_function("required")) == ("now", None)


def test_required_gives_an_array_with_a_branch_for_each_tool() -> None:
    schema = schema_of("required")
    assert (schema["type"], schema["minItems"], "maxItems" in schema) == ("array", 1, False)
    first, second = schema["items"]["anyOf"]
    assert [branch["properties"]["name"] for branch in (first, second)] == [{"enum": ["weather"]}, {"enum": ["now"]}]
    assert all(branch["required"] == ["name", "parameters"] for branch in (first, second))
    moved = schema["$defs"]["parameters0"]
    assert moved["properties"]["where"] == {"$ref": "#/$defs/parameters0/$defs/place"}
    assert moved["properties"]["self"] == {"$ref": "#/$defs/parameters0/properties/where"}
    assert schema_of("required", parallel=False)["maxItems"] == 1


@pytest.mark.parametrize(
    ("tools", "choice"), [(TOOLS, "function:other"), (None, "required"), ([], "function:weather"), ([{}], "required")]
)
def test_calls_of_what_is_not_there_are_refused(tools: Any, choice: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        call_constraint(tools, choice, parallel=True)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_array_is_read_however_it_is_cut(size: int) -> None:
    assert parse(None, [ARRAY[at : at + size] for at in range(0, len(ARRAY), size)]) == CALLS


def test_each_call_comes_out_as_soon_as_it_is_whole() -> None:
    parser = GuidedCalls(None)
    assert parser.push('[{"name":"now","parameters":{}') == []
    assert [type(part) for part in parser.push("}")] == [ToolCallPart]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_arguments_of_a_named_function(size: int) -> None:
    text = ' {"where": "a{}b", "n": 12345678901234567890123} '
    expected = ToolCallPart(0, "id-0", "weather", '{"where":"a{}b","n":12345678901234567890123}')
    assert parse("weather", [text[at : at + size] for at in range(0, len(text), size)]) == [expected]


def test_half_a_call_is_never_shown() -> None:
    assert parse(None, [ARRAY[:-20]], truncated=True) == CALLS[:1]
    assert parse("f", ['{"a": '], truncated=True) == []
    assert parse("f", ['{"a": ']) == [TextPart('{"a": ')]


@pytest.mark.parametrize("text", ["Hello", "Hello {}", '[{"name": 5, "parameters": {}}]', "{x}"])
@pytest.mark.parametrize("size", [1, 1000])
def test_output_that_does_not_obey_is_text(text: str, size: int) -> None:
    parts = parse(None, [text[at : at + size] for at in range(0, len(text), size)])
    assert [type(part) for part in parts] == [TextPart]
    assert text.strip("[]") in "".join(part.text for part in parts if isinstance(part, TextPart))

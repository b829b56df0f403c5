"""What can be asked of the output, and what is refused; that the engine obeys is tested with the engine."""

import json
from typing import Any

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.requests import Guided
from appliance.engines.llamacpp.guided import grammar_of
from appliance.engines.llamacpp.json_grammar import json_schema_grammar
from appliance.engines.llamacpp.regex_grammar import regex_grammar
from tests.helpers.engines import make_request

REFUSED_SCHEMAS: list[Any] = [
    {"type": "nonsense"},
    {"not": {"type": "string"}},
    {"type": "array", "uniqueItems": True},
    {"type": "number", "multipleOf": 3},
    {"$ref": "#/nowhere"},
    {"$ref": "http://elsewhere/schema"},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"type": "integer", "minimum": "low"},
    {"type": "string", "minLength": 3, "maxLength": 2},
    {"type": "string", "maxLength": 10**9},
    {"type": "string", "pattern": "(?=x)"},
    {"type": "string", "pattern": "a+", "maxLength": 3},
    {"type": "array", "maxItems": 0, "minItems": 1},
    {"enum": []},
    {"anyOf": 3},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    [1],
    False,
    "x",
]


@pytest.mark.parametrize("schema", REFUSED_SCHEMAS, ids=json.dumps)
def test_a_schema_that_cannot_be_enforced_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequest):
        json_schema_grammar(json.dumps(schema))


def test_a_schema_without_end_is_refused() -> None:
    nested: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        nested = {"type": "array", "items": nested}
    with pytest.raises(InvalidRequest, match="deep"):
        json_schema_grammar(json.dumps(nested))
    with pytest.raises(InvalidRequest):
        json_schema_grammar('{"type":')


@pytest.mark.parametrize(
    "pattern", ["(", "a(?!b)", r"(a)\1", r"a\bb", "x^y", "a{3000}", "(?i)a", "(?i:a)", "a*+", "(?>a)"]
)
def test_a_pattern_that_cannot_be_enforced_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        regex_grammar(pattern)
    assert caught.value.param == "guided_regex"


@pytest.mark.parametrize(
    "guided",
    [Guided(choice=()), Guided(choice=("a", "")), Guided(grammar='%llguidance {}\nstart: "a"'), Guided(grammar="x")],
)
def test_other_constraints_that_cannot_be_enforced(guided: Guided) -> None:
    with pytest.raises(InvalidRequest):
        grammar_of(make_request(guided=guided))


def test_a_minimum_length_and_a_constraint_exclude_each_other() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens"):
        grammar_of(make_request(guided=Guided(regex="a"), min_tokens=2))


def test_no_constraint_is_no_grammar() -> None:
    assert grammar_of(make_request()) is None

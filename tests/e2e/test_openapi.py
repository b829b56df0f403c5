"""The OpenAPI document is true: thousands of requests made from it, right and wrong ones, get the answers it names."""

import json
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from appliance.core.settings import PathSettings
from appliance.frontend.control.openapi.operations import operations
from tests.e2e.appliance_process import Appliance, appliance

pytestmark = pytest.mark.slow

MOCKER = ("--engine", "mocker", "--engine-arg", "step_ms=0", "--context-length", "64", "--replicas", "2")
EXAMPLES = {"useful": 60, "positive": 50, "negative": 40}
"""Requests per operation: that mean something, that fit the schema, that do not; there are 15 operations."""
CHECKS = [
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
EXPECTED_5XX = {501, 503}
OPERATIONS = [f"{one.method.upper()} {one.path}" for one in operations(PathSettings())]


@dataclass
class Described:
    """An appliance, its document with names that it has, and the statuses that it answered with."""

    appliance: Appliance
    schemas: dict[str, Any]
    """By kind of requests."""
    session: requests.Session
    seen: Counter[int] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def described(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    with (
        appliance(binary, tmp_path_factory.mktemp("openapi") / "state", *MOCKER, "m") as one,
        requests.Session() as session,
    ):
        workers = [instance["instance_id"] for instance in json.loads(one.get("/health"))["instances"]]
        document = json.loads(one.get("/openapi.json"))
        assert sum(len(methods) for methods in document["paths"].values()) == len(OPERATIONS)
        _use_real_names(document, workers)
        useful = deepcopy(document)
        _keep_what_means_something(useful)
        whole = schemathesis.openapi.from_dict(document)
        narrowed = schemathesis.openapi.from_dict(useful)
        yield Described(one, {"useful": narrowed, "positive": whole, "negative": whole}, session)


def _use_real_names(document: dict[str, Any], workers: list[int]) -> None:
    """Models and workers that exist, so that requests get beyond the look-up of names."""
    for name, schema in document["components"]["schemas"].items():
        if not name.startswith("answers.") and "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"type": "string", "enum": ["m", "m/x"]}
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        for parameter in operation["parameters"]:
            if parameter["name"] == "model_id":
                parameter["schema"] = {"type": "string", "enum": ["m", "m/x"]}
            if parameter["name"].endswith("-instance-id"):
                parameter["schema"] = {"type": "integer", "enum": [*workers, 7]}


def _keep_what_means_something(document: dict[str, Any]) -> None:
    """Narrow members of which few values get beyond the first checks."""
    schemas = document["components"]["schemas"]
    text = {"type": "string", "minLength": 1, "maxLength": 20}
    narrow: dict[str, dict[str, Any]] = {
        "openai.Message": {"content": text},
        "openai.CompletionBody": {"prompt": text},
        "openai.TokenizeBody": {"prompt": text},
        "openai.DetokenizeBody": {
            "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}}
        },
        "anthropic.Message": {"content": text},
        "responses.ResponsesBody": {"input": text},
    }
    unwanted = {"messages": {"openai.TokenizeBody"}}
    for name in ("stream_options", "tool_choice", "tools", "conversation", "background", "previous_response_id"):
        unwanted[name] = set(schemas)
    for name, members in narrow.items():
        schemas[name]["properties"] |= members
        schemas[name]["required"] = sorted({*schemas[name]["required"], *members})
    for member, names in unwanted.items():
        for name in names:
            schemas[name].get("properties", {}).pop(member, None)
    schemas["responses.ResponsesBody"]["properties"].pop("prompt")
    for schema in schemas.values():
        if schema.get("properties", {}).get("model", {}).get("enum"):
            schema["properties"]["model"]["enum"] = ["m"]
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        operation["parameters"] = [one for one in operation["parameters"] if not one["name"].startswith("x-")]


def _with_whole_numbers(value: Any) -> Any:
    """JSON Schema takes 1.0 for an integer, the server does not."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_documented(described: Described, label: str, kind: str) -> None:
    operation = next(o.ok() for o in described.schemas[kind].get_all_operations() if o.ok().label == label)
    mode = GenerationMode.NEGATIVE if kind == "negative" else GenerationMode.POSITIVE
    if mode is GenerationMode.NEGATIVE and not operation.body:
        return  # nothing that could be wrong

    @settings(
        max_examples=EXAMPLES[kind],
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            case.body = _with_whole_numbers(case.body)
        answer = case.call(base_url=described.appliance.url, session=described.session, timeout=10)
        described.seen[answer.status_code] += 1
        assert answer.status_code < 500 or answer.status_code in EXPECTED_5XX, answer.text
        case.validate_response(answer, checks=CHECKS)

    ask()


def test_requests_got_through(described: Described) -> None:
    """The tests above are worth something only when many requests are really served."""
    assert described.seen[200] > 300, described.seen
    assert described.seen[400] > 300, described.seen
    assert sum(described.seen.values()) > 1500

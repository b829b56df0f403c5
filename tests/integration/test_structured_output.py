"""Constrained output of the embedded engine, judged by an independent validator."""

import json

import jsonschema_rs
import pytest
import trio

from appliance.core.model_facts import EngineOptions
from appliance.core.requests import Guided, Sampling
from appliance.engines.llamacpp import LlamaCppEngine
from tests.helpers.engines import answer, demo_facts, make_request, running
from tests.helpers.random_schemas import Schema, SchemaSource

SCHEMAS = 200
SLOTS = 4


@pytest.mark.slow
async def test_output_conforms_to_random_bounded_schemas() -> None:
    source = SchemaSource(seed=1)
    schemas = [source.schema() for _ in range(SCHEMAS)]
    finished: list[tuple[Schema, str]] = []
    engine = LlamaCppEngine(demo_facts(), EngineOptions(served_name="demo", args={"slots": str(SLOTS)}))

    async def ask(worker: int) -> None:
        for number in range(worker, SCHEMAS, SLOTS):
            text = json.dumps(schemas[number])
            request = make_request(
                max_tokens=400, guided=Guided(json_schema=text), sampling=Sampling(temperature=1.0, seed=number)
            )
            sink = await answer(engine, request)
            if sink.finish == "stop":
                finished.append((schemas[number], sink.text))

    with trio.fail_after(300):
        async with running(engine), trio.open_nursery() as nursery:
            for worker in range(SLOTS):
                nursery.start_soon(ask, worker)
    wrong = [(schema, text) for schema, text in finished if not conforms(schema, text)]
    assert not wrong
    assert len(finished) >= 0.9 * SCHEMAS


def conforms(schema: Schema, text: str) -> bool:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    return validator.is_valid(json.loads(text))


@pytest.mark.parametrize(
    ("schema", "text"), [({"format": "date", "type": "string"}, '"2026-13-01"'), ({"maxItems": 1}, "[1,2]")]
)
def test_the_validator_can_say_no(schema: Schema, text: str) -> None:
    assert not conforms(schema, text)

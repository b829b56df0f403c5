"""Every case of the corpus, under every way to cut its text. The corpus' README says how to add one."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from appliance.core.output import OutputPart, TextPart, ToolCallPart
from tests.helpers.tool_formats import compact, cut, parse

CORPUS = Path(__file__).parents[3] / "data" / "parsers" / "tool_calls"


def corpus() -> Iterator[Any]:
    for path in sorted(CORPUS.glob("*.yaml")):
        family = yaml.safe_load(path.read_text())
        for parser in family["parsers"]:
            for case in family["cases"]:
                tools = tool_list(family.get("tools", {}))
                yield pytest.param(parser, tools, case, id=f"{path.stem}-{parser}-{case['name']}")


def tool_list(tools: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
        for name, properties in tools.items()
    ]


def expected_parts(case: dict[str, Any]) -> list[OutputPart]:
    parts: list[OutputPart] = []
    index = 0
    for item in case["expected"]:
        if isinstance(item, str):
            parts.append(TextPart(item))
            continue
        arguments = item.get("json") or compact(item["arguments"])
        call_id = item.get("id", f"id-{index}")
        parts.append(ToolCallPart(index=index, id=call_id, name=item["call"], arguments=arguments))
        index += 1
    return parts


@pytest.mark.parametrize(("parser", "tools", "case"), list(corpus()))
def test_case(parser: str, tools: list[dict[str, Any]], case: dict[str, Any]) -> None:
    text, truncated = case["input"], case.get("truncated", False)
    splits = [cut(text, None), cut(text, 1), cut(text, 3), *(cut(text, None, Random(seed)) for seed in range(5))]
    for pieces in splits:
        assert parse(parser, pieces, tools=tools, truncated=truncated) == expected_parts(case)

"""Each case of the corpus, for each parser it is for, cut into pieces in several ways."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.core.output import OutputPart, ReasoningPart, TextPart
from appliance.preprocess.reasoning import REASONING_PARSERS, make_reasoning_parser
from tests.helpers.pieces import cuttings, merged, parse

FILES = [
    yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[3] / "data/parsers/reasoning").glob("*.yaml"))
]
CASES = [
    pytest.param(parser, case, id=f"{parser}: {case['name']}")
    for file in FILES
    for parser in file["parsers"]
    for case in file["cases"]
]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_case(name: str, case: dict[str, Any]) -> None:
    expected = [_part(part) for part in case["parts"]]
    for pieces in cuttings(case["input"]):
        parser = make_reasoning_parser(name, starts_inside=case.get("starts_inside"))
        assert merged([*parse(parser.push, pieces), *parser.finish()]) == expected, pieces


def test_every_parser_has_cases() -> None:
    assert {parser for file in FILES for parser in file["parsers"]} == set(REASONING_PARSERS)


def _part(part: dict[str, str]) -> OutputPart:
    ((kind, text),) = part.items()
    return TextPart(text) if kind == "text" else ReasoningPart(text)

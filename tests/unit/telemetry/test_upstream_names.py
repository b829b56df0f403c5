"""Our table of metrics against the one written down from Dynamo's components: nothing missing, nothing different."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.telemetry.metrics import TABLE

FILE = yaml.safe_load((Path(__file__).parents[2] / "data/metrics.yaml").read_text())
OURS = {spec.name: spec for spec in TABLE}
LEFT_OUT: dict[str, str] = FILE["left_out"]
THEIRS: dict[str, list[Any]] = {
    prefix + name: row for prefix, rows in FILE.items() if prefix.startswith("dynamo_") for name, row in rows.items()
}


def is_left_out(name: str) -> bool:
    return any(name == one or (one.endswith("_") and name.startswith(one)) for one in LEFT_OUT)


@pytest.mark.parametrize("name", [name for name in THEIRS if not is_left_out(name)])
def test_a_metric_is_as_upstream_has_it(name: str) -> None:
    kind, labels, *buckets = THEIRS[name]
    labels = FILE["labels"][labels] if isinstance(labels, str) else labels
    ours = OURS[name]
    assert (ours.kind, list(ours.labels)) == (kind, labels)
    if buckets and buckets[0] != "unknown":
        assert list(ours.buckets) == pytest.approx(FILE["buckets"][buckets[0]])
    assert bool(ours.buckets) is (kind == "histogram")
    assert list(ours.buckets) == sorted(set(ours.buckets))


def test_no_name_of_upstreams_is_made_up() -> None:
    assert {name for name in OURS if not name.startswith("appliance_")} <= THEIRS.keys()


def test_what_is_left_out_is_really_left_out_and_has_a_reason() -> None:
    assert [name for name in OURS if is_left_out(name)] == []
    assert all(LEFT_OUT.values())
    assert [one for one in LEFT_OUT if not any(name == one or name.startswith(one) for name in THEIRS)] == []

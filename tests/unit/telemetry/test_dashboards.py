"""The dashboard and the scrape sample use only what the appliance has: names, kinds and labels of metrics, routes."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.core.settings import HttpSettings, PathSettings
from appliance.telemetry.cells import MetricSpec
from appliance.telemetry.metrics import TABLE

FOLDER = Path(__file__).parents[3] / "packaging/dashboards"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
SCRAPE: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
SPECS = {spec.name: spec for spec in TABLE}
SUFFIXES = ("_bucket", "_sum", "_count")
METRIC = re.compile(r"\b((?:dynamo|appliance)_\w+)(?:\{([^}]*)\})?(\[)?")


def spec_of(name: str) -> MetricSpec:
    """The row of a series' metric; a histogram is there only as its parts."""
    for suffix in SUFFIXES:
        base = SPECS.get(name.removesuffix(suffix))
        if name.endswith(suffix) and base is not None and base.kind == "histogram":
            return base
    assert SPECS[name].kind != "histogram", f"{name} is a histogram"
    return SPECS[name]


@pytest.mark.parametrize(("title", "target"), TARGETS)
def test_a_query_asks_for_what_there_is(title: str, target: dict[str, Any]) -> None:
    used = METRIC.findall(target["expr"])
    assert used
    for name, selector, ranged in used:
        spec = spec_of(name)
        assert bool(ranged) is (spec.kind != "gauge"), f"{name}: counters have rates, gauges have values"
        assert set(re.findall(r"(\w+)=", selector)) <= set(spec.labels)
    known = {label for name, *_ in used for label in spec_of(name).labels} | {"le"}
    grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
    shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
    assert {label.strip() for group in grouped for label in group.split(",")} | set(shown) <= known
    assert target["expr"].count("(") == target["expr"].count(")")


def test_the_dashboard_shows_what_matters() -> None:
    asked = " ".join(target["expr"] for _, target in TARGETS)
    for name in (
        "requests_total",
        "time_to_first_token_seconds_bucket",
        "inter_token_latency_seconds_bucket",
        "output_tokens_total",
        "queued_requests",
        "kv_hit_rate",
        "cached_tokens",
        "appliance_workers",
        "model_migration_total",
        "gpu_memory_used_bytes",
        "gpu_utilization_ratio",
    ):
        assert name in asked


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 36
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    assert {*re.findall(r"\$\{?(\w+)", text)} - {"__rate_interval", "__all"} == names
    for variable in DASHBOARD["templating"]["list"]:
        assert all(spec_of(name) for name, *_ in METRIC.findall(variable.get("definition", "")))


def test_panels_do_not_overlap_or_stick_out() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = [
            one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
            for at, size in (("x", "w"), ("y", "h"))
        ]
        assert any(apart), (one, other)


def test_the_scrape_sample_asks_the_standard_port_with_a_key_from_a_file() -> None:
    http, paths = HttpSettings(), PathSettings()
    own, engines = SCRAPE["scrape_configs"]
    assert own["metrics_path"] == paths.metrics
    assert own["static_configs"] == [{"targets": [f"{http.host}:{http.port}"]}]
    (discovery,) = engines["http_sd_configs"]
    assert discovery["url"] == f"http://{http.host}:{http.port}/metrics/workers"
    for part in (own, engines, discovery):
        assert part["authorization"]["type"] == "Bearer"
        assert "credentials" not in part["authorization"]
        assert part["authorization"]["credentials_file"].startswith("/etc/prometheus/")

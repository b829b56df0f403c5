"""Totals over front ends that come and go."""

from typing import Any

import msgspec

from appliance.roles.node.front_end_totals import FrontEndTotals
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE

REQUESTS = ("dynamo_frontend_requests_total", "m", "chat_completions", "unary", "success", "")
ACTIVE = ("dynamo_frontend_active_requests", "m")


def counted(requests: int, active: int = 0) -> Any:
    """The metrics of a front end, as they come over the bus."""
    metrics = Metrics(TABLE)
    metrics.cell(*REQUESTS).add(requests)
    metrics.cell(*ACTIVE).set(active)
    histogram = metrics.histogram("dynamo_frontend_request_duration_seconds", "m")
    histogram.observe_all([0.5] * requests)
    return msgspec.to_builtins(metrics.series())


def sums(totals: FrontEndTotals) -> dict[str, float]:
    return {one.name: sum(one.values[:-1]) if len(one.values) > 1 else one.values[0] for one in totals.sums()}


def test_what_ended_front_ends_counted_stays_and_their_gauges_go() -> None:
    totals = FrontEndTotals()
    totals.note("a", counted(3, active=2))
    totals.note("b", counted(4, active=1))
    assert sums(totals) == {REQUESTS[0]: 7, ACTIVE[0]: 3, "dynamo_frontend_request_duration_seconds": 7}
    totals.on_end("a")
    assert sums(totals) == {REQUESTS[0]: 7, ACTIVE[0]: 1, "dynamo_frontend_request_duration_seconds": 7}
    totals.note("c", counted(1))
    assert sums(totals)[REQUESTS[0]] == 8


def test_an_end_counts_once_and_late_answers_not_at_all() -> None:
    totals = FrontEndTotals()
    totals.note("a", counted(3))
    totals.on_end("a")
    totals.note("a", counted(3))
    totals.on_end("a")
    assert sums(totals)[REQUESTS[0]] == 3


def test_one_that_does_not_answer_counts_as_when_it_last_did() -> None:
    totals = FrontEndTotals()
    totals.note("a", counted(3))
    totals.note("b", counted(1))
    totals.note("b", counted(2))
    assert sums(totals)[REQUESTS[0]] == 5

"""What requests leave behind in the metrics, and what gauges say while they run."""

from typing import Any

import pytest
import trio

from appliance.core.errors import InvalidRequest, Overloaded
from appliance.core.identity import RequestId, WorkerId
from appliance.frontend.account import Account
from appliance.frontend.accounts import BATCH, Accounts
from appliance.frontend.request_metrics import RequestMetrics, WorkerMark
from appliance.frontend.routed import Routed
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE

FE = "dynamo_frontend_"


def told(metrics: Metrics, name: str, *labels: str) -> float:
    """A counter or gauge, or how many values a histogram got; -1 without such a series."""
    for one in metrics.series():
        if (one.name, one.labels) == (FE + name, labels):
            return one.values[0] if len(one.values) == 1 else sum(one.values[:-1])
    return -1


def sum_of(metrics: Metrics, name: str, *labels: str) -> float:
    return metrics.histogram(name, *labels).total


def routed(**facts: Any) -> Routed:
    made = Routed()
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def account(**members: Any) -> Account:
    """A good one, of 2 s with the first token after half a second."""
    facts: dict[str, Any] = {
        "id": RequestId("r"),
        "endpoint": "completions",
        "started": 10.0,
        "ended": 12.0,
        "first_token": 10.5,
        "model": "m",
        "prepared": 10.1,
        "last_step_s": 0.02,
        "prompt_tokens": 7,
        "output_tokens": 3,
        "cached_tokens": 4,
        "status": "success",
        "routed": routed(
            worker=WorkerId("w"), rank=1, kv_hit_rate=0.5, placed_at=10.2, route_s=0.1, send_s=0.01, sent_at=10.3
        ),
    }
    return Account(**(facts | members))


@pytest.mark.parametrize("count", [1, 100])
def test_an_answer_is_in_every_series(count: int) -> None:
    metrics = Metrics(TABLE)
    RequestMetrics(metrics).count([account() for _ in range(count)])
    assert told(metrics, "requests_total", "m", "completions", "unary", "success", "") == count
    assert told(metrics, "output_tokens_total", "m") == told(metrics, "detokenize_token_count") == 3 * count
    sums = {
        "request_duration_seconds": 2.0,
        "time_to_first_token_seconds": 0.5,
        "input_sequence_tokens": 7,
        "output_sequence_tokens": 3,
        "cached_tokens": 4,
        "kv_hit_rate": 0.5,
    }
    for name, value in sums.items():
        assert told(metrics, name, "m") == count, name
        assert sum_of(metrics, FE + name, "m") == pytest.approx(value * count), name
    stages = {"preprocess": 0.1, "route": 0.1, "transport_roundtrip": 0.2, "postprocess": 0.02}
    for name, value in stages.items():
        assert sum_of(metrics, FE + "stage_duration_seconds", name) == pytest.approx(value * count), name
    assert sum_of(metrics, "dynamo_request_plane_send_seconds") == pytest.approx(0.01 * count)
    assert sum_of(metrics, "dynamo_request_plane_roundtrip_ttft_seconds") == pytest.approx(0.2 * count)


def test_what_a_request_did_not_come_to_is_left_out() -> None:
    metrics = Metrics(TABLE)
    bare = {"routed": Routed(), "prepared": None, "first_token": None, "status": "validation"}
    RequestMetrics(metrics).count([account(**bare), account(**bare, model="", stream=True)])
    assert told(metrics, "requests_total", "m", "completions", "unary", "error", "validation") == 1
    assert told(metrics, "requests_total", "", "completions", "stream", "error", "validation") == 1
    assert told(metrics, "request_duration_seconds", "m") == 1
    assert told(metrics, "request_duration_seconds", "") == -1
    for name in ("time_to_first_token_seconds", "input_sequence_tokens"):
        assert told(metrics, name, "m") == 0
    assert told(metrics, "stage_duration_seconds", "preprocess") == 0


def test_the_first_token_before_it_was_sent_again_is_no_roundtrip() -> None:
    metrics = Metrics(TABLE)
    moved = routed(worker=WorkerId("w"), placed_at=10.2, sent_at=11.0, prefilled_at=11.5)
    RequestMetrics(metrics).count([account(routed=moved)])
    assert told(metrics, "stage_duration_seconds", "transport_roundtrip") == 0
    assert told(metrics, "kv_transfer_estimated_latency_seconds", "m") == -1
    RequestMetrics(metrics).count([account(routed=routed(worker=WorkerId("w"), prefilled_at=10.25))])
    assert sum_of(metrics, FE + "kv_transfer_estimated_latency_seconds", "m") == 0.25


def test_a_mark_is_that_of_the_last_answer() -> None:
    counted = RequestMetrics(Metrics(TABLE))
    counted.count([account(), account(prompt_tokens=9, itl_s=0.25), account(prompt_tokens=1, first_token=None)])
    assert counted.marks == {("w", 1): WorkerMark(0.5, 0.25, 9)}


async def test_gauges_and_ends_of_requests() -> None:
    metrics = Metrics(TABLE)
    accounts = Accounts(metrics)

    def gauges() -> list[float]:
        accounts.tell_metrics()
        return [told(metrics, name, "m") for name in ("active_requests", "inflight_requests", "queued_requests")]

    assert gauges() == [-1, -1, -1]
    with accounts.request(RequestId("a"), "completions") as one:
        one.model = "m"
        assert gauges() == [1, 1, 1]
        produced = 0
        one.produced = lambda: produced
        assert gauges() == [1, 1, 1]
        produced = 1  # queued is what has no token yet
        assert gauges() == [1, 1, 0]
        one.gaps = [0.5, 1.5]
    assert not one.gaps, "they may be many"
    assert one.itl_s == 1.0
    with accounts.request(RequestId("b"), "completions") as two:
        two.model, two.error = "m", Overloaded("too much")
    with trio.move_on_after(0), accounts.request(RequestId("c"), "completions") as three:
        three.model = "m"
        await trio.sleep_forever()
    assert gauges() == [0, 0, 0]
    assert told(metrics, "inter_token_latency_seconds", "m") == 2
    assert told(metrics, "model_rejection_total", "m", "completions") == 1
    assert told(metrics, "model_cancellation_total", "m", "completions", "unary") == 1
    assert told(metrics, "disconnected_clients") == 1
    assert told(metrics, "requests_total", "m", "completions", "unary", "error", "cancelled") == 1


def test_each_request_is_counted_once_whoever_asks() -> None:
    metrics = Metrics(TABLE)
    accounts = Accounts(metrics)
    for _ in range(2 * BATCH + 3):
        with pytest.raises(InvalidRequest), accounts.request(RequestId("r"), "completions"):
            raise InvalidRequest("no")
        if len(accounts.ended()) % 50 == 0:
            accounts.tell_metrics()
    accounts.tell_metrics()
    accounts.tell_metrics()
    assert told(metrics, "requests_total", "", "completions", "unary", "error", "validation") == 2 * BATCH + 3

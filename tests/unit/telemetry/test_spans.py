"""Which traces are recorded, what a request's spans say, and the JSON that collectors get."""

import random

import pytest

from appliance.telemetry.otlp import export_request
from appliance.telemetry.sampling import Sampler
from appliance.telemetry.spans import Attribute, FinishedSpan, RequestTrace, SpanClock, SpanQueue
from appliance.telemetry.trace import Span, begin_trace, continue_trace

LOW, HIGH = "f" * 16 + "0" * 15 + "1", "0" * 16 + "f" * 16


@pytest.mark.parametrize(
    ("name", "no_parent", "sampled_parent", "unsampled_parent"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
        ("parentbased_traceidratio", True, True, False),
    ],
)
def test_samplers(name: str, no_parent: bool, sampled_parent: bool, unsampled_parent: bool) -> None:
    sampler = Sampler(name, 0.5)
    decided = [sampler.wants(LOW, parent) for parent in (None, True, False)]
    assert decided == [no_parent, sampled_parent, unsampled_parent]


def test_a_ratio_goes_by_the_low_half_of_the_id() -> None:
    assert Sampler("traceidratio", 0.5).wants(LOW, False)
    assert not Sampler("traceidratio", 0.5).wants(HIGH, True)
    assert Sampler("traceidratio", 1.0).wants(HIGH, None)
    assert not Sampler("traceidratio", 0.0).wants("0" * 32, None)


def test_a_ratio_takes_its_share() -> None:
    random.seed(7)
    sampler = Sampler("traceidratio", 0.25)
    taken = sum(sampler.wants(begin_trace().trace_id, None) for _ in range(4000))
    assert 850 < taken < 1150


def test_a_trace_of_our_own_can_be_continued() -> None:
    first = begin_trace()
    assert (first.parent_id, first.sampled) == ("", False)
    child = continue_trace(first.traceparent())
    assert child is not None
    assert (child.trace_id, child.parent_id) == (first.trace_id, first.span_id)


def make_trace() -> RequestTrace:
    return RequestTrace(Span("a" * 32, "b" * 16, "c" * 16, "01"), 100.0, SpanClock(100.0, 5_000_000_000))


def test_parts_are_children_of_the_request_and_share_its_clock() -> None:
    trace = make_trace()
    trace.add("route", 100.25, 100.5, {"worker_id": "w"})
    part, own = trace.finish("http-request", 101.0, {"x": 1}, failed=False)
    assert (part.trace_id, part.parent_id) == ("a" * 32, "b" * 16)
    assert part.span_id not in (own.span_id, own.parent_id)
    assert (part.start_ns, part.end_ns) == (5_250_000_000, 5_500_000_000)
    assert (own.span_id, own.parent_id) == ("b" * 16, "c" * 16)
    assert (own.start_ns, own.end_ns, own.kind) == (5_000_000_000, 6_000_000_000, "server")


@pytest.mark.parametrize(("described", "failed"), [({}, False), ({"error.type": "worker_lost"}, True)])
def test_an_error_that_is_described_fails_the_span(described: dict[str, Attribute], failed: bool) -> None:
    trace = make_trace()
    trace.describe = lambda: described
    assert trace.finish("r", 101.0, {}, failed=False)[-1].failed is failed


def span(number: int, **members: Attribute) -> FinishedSpan:
    return FinishedSpan(
        name="n", trace_id="a" * 32, span_id=f"{number:016x}", parent_id="", start_ns=7, end_ns=5, attributes=members
    )


def test_the_queue_wakes_once_and_drops_what_has_no_room() -> None:
    woken: list[int] = []
    queue = SpanQueue(3, lambda: woken.append(len(queue)))
    spans = [span(number) for number in range(5)]
    for one in spans:
        queue.add(one)
    assert (woken, queue.dropped, len(queue)) == ([1], 2, 3)
    assert queue.peek(2) == spans[:2]
    queue.discard(2)
    assert queue.peek(9) == [spans[2]]
    queue.discard(1)
    queue.add(spans[4])
    assert woken == [1, 1]


def test_the_json_of_an_export() -> None:
    body = export_request({"service.name": "s"}, "1.2", [span(1, text="t", yes=True, count=3, share=0.5)])
    (resource,) = body["resourceSpans"]
    assert resource["resource"] == {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]}
    (scope,) = resource["scopeSpans"]
    assert scope["scope"] == {"name": "dynamo-appliance", "version": "1.2"}
    assert scope["spans"] == [
        {
            "traceId": "a" * 32,
            "spanId": "0" * 15 + "1",
            "name": "n",
            "kind": 1,
            "startTimeUnixNano": "7",
            "endTimeUnixNano": "7",
            "attributes": [
                {"key": "text", "value": {"stringValue": "t"}},
                {"key": "yes", "value": {"boolValue": True}},
                {"key": "count", "value": {"intValue": "3"}},
                {"key": "share", "value": {"doubleValue": 0.5}},
            ],
        }
    ]

"""Which requests have a record of spans, and what their spans say in the end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.core.errors import WorkerLost
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import EngineRequest, EngineUsage, KvTransfer, StopConditions
from appliance.frontend.accounts import Account
from appliance.frontend.tracing import RequestTracer, follow, tell_workers
from appliance.roles.access_log import access_line, on_done
from appliance.roles.trace_export import WorkerSpans
from appliance.telemetry.sampling import Sampler
from appliance.telemetry.spans import FinishedSpan
from appliance.telemetry.trace import continue_trace
from appliance.web.exchange import Exchange
from appliance.web.request import HttpRequest

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def arrive(
    sampler: str = "parentbased_always_on", flags: str | None = None
) -> tuple[HttpRequest, RequestTracer, list[FinishedSpan]]:
    """A request that has reached the listener; with `flags` it is part of a client's trace."""
    kept: list[FinishedSpan] = []
    tracer = RequestTracer(Sampler(sampler), kept.append)
    headers = {} if flags is None else {b"traceparent": f"00-{TRACE}-{PARENT}-{flags}".encode()}
    request = HttpRequest("POST", "/v1/chat/completions", headers=headers)
    if flags is not None:
        request.join_trace()
    tracer.begin(request)
    return request, tracer, kept


def answered(request: HttpRequest, status: int = 200, *, finished: bool = True, broken: bool = False) -> Exchange:
    return cast("Exchange", SimpleNamespace(request=request, status=status, finished=finished, broken=broken))


def account(**members: Any) -> Account:
    return Account(id=RequestId("r"), endpoint="chat_completions", started=10.0, **members)


@pytest.mark.parametrize(
    ("sampler", "flags", "recorded"),
    [
        ("parentbased_always_on", None, True),
        ("parentbased_always_on", "00", False),
        ("parentbased_always_off", None, False),
        ("parentbased_always_off", "01", True),
        ("always_on", "00", True),
        ("always_off", "01", False),
    ],
)
def test_the_decision_is_made_once_and_passed_on(sampler: str, flags: str | None, recorded: bool) -> None:
    request, _, _ = arrive(sampler, flags)
    assert (request.trace is not None) is recorded
    assert request.span is not None
    assert request.span.sampled is recorded
    if flags is not None:
        passed_on = continue_trace(request.headers[b"traceparent"])
        assert passed_on is not None
        assert (passed_on.trace_id, passed_on.parent_id) == (TRACE, request.span.span_id)
        assert passed_on.sampled is recorded


def test_what_nobody_took_up_is_recorded_only_within_a_clients_trace() -> None:
    for flags, expected in ((None, 0), ("01", 1)):
        request, tracer, kept = arrive(flags=flags)
        tracer.end(answered(request))
        assert len(kept) == expected


def test_the_span_says_what_the_account_says() -> None:
    request, tracer, kept = arrive()
    assert request.trace is not None
    done = account(model="m", workers=["w1", "w2"], prompt_tokens=5, output_tokens=3, first_token=10.25)
    follow(request.trace, done)
    tracer.end(answered(request))
    (span,) = kept
    assert not span.failed
    assert (span.name, span.kind, span.parent_id) == ("http-request", "server", "")
    wanted = {"model": "m", "worker_id": "w2", "input_tokens": 5, "output_tokens": 3, "ttft_ms": 250.0}
    assert wanted.items() <= dict(span.attributes).items()


@pytest.mark.parametrize(
    ("exchange", "error", "failed", "kind"),
    [
        ({"status": 404}, None, False, None),
        ({"status": 503}, None, True, None),
        ({"broken": True}, None, True, "client_gone"),
        ({"finished": False}, None, True, "client_gone"),
        ({}, WorkerLost("x"), True, "worker_lost"),
    ],
)
def test_failures(exchange: dict[str, Any], error: WorkerLost | None, failed: bool, kind: str | None) -> None:
    request, tracer, kept = arrive()
    assert request.trace is not None
    follow(request.trace, account(error=error))
    tracer.end(answered(request, **exchange))
    (span,) = kept
    assert (span.failed, span.attributes.get("error.type")) == (failed, kind)


def engine_request(traceparent: str = "", transfer: KvTransfer | None = None) -> EngineRequest:
    return EngineRequest(
        id=RequestId("r"),
        model=ModelName("m"),
        stop=StopConditions(max_tokens=1),
        traceparent=traceparent,
        kv_transfer=transfer,
    )


def test_a_workers_span_is_a_child_of_the_requests() -> None:
    request, _, _ = arrive(flags="01")
    assert request.trace is not None
    (asked,) = tell_workers([engine_request(transfer=KvTransfer(phase="prefill"))], request.trace)
    kept: list[FinishedSpan] = []
    WorkerSpans("w", kept.append)(asked, 1.0, EngineUsage(7, 2, 3), "")
    (span,) = kept
    assert (span.name, span.trace_id, span.parent_id) == ("handle_payload", TRACE, request.trace.span.span_id)
    assert not span.failed
    said = {"phase": "prefill", "worker_id": "w", "cached_tokens": 3, "status": "success"}
    assert said.items() <= dict(span.attributes).items()


@pytest.mark.parametrize("header", ["", "junk", f"00-{TRACE}-{PARENT}-00"])
def test_a_worker_records_nothing_without_a_sampled_trace(header: str) -> None:
    kept: list[FinishedSpan] = []
    WorkerSpans("w", kept.append)(engine_request(header), 1.0, None, "")
    assert kept == []


def test_a_stream_that_failed_is_a_failed_span() -> None:
    kept: list[FinishedSpan] = []
    WorkerSpans("w", kept.append)(engine_request(f"00-{TRACE}-{PARENT}-01"), 1.0, None, "cancelled")
    (span,) = kept
    assert (span.failed, span.attributes["status"]) == (True, "cancelled")


def test_the_access_line_names_a_trace_of_our_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    request, tracer, kept = arrive()
    assert request.span is not None
    assert request.trace is not None
    follow(request.trace, account())
    assert on_done(None, access_log=False) is None
    both = on_done(tracer, access_log=True)
    assert both is not None
    both(answered(request))
    assert f"trace_id={request.span.trace_id}" in caplog.text
    assert "parent_id" not in access_line(answered(request))
    assert len(kept) == 1

"""Spans of requests: which are recorded, what they say, and how workers learn of them. Never the text of a request."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from appliance.core.requests import EngineRequest
from appliance.frontend.accounts import Account
from appliance.telemetry.sampling import Sampler
from appliance.telemetry.spans import Attribute, FinishedSpan, RequestTrace, SpanClock
from appliance.telemetry.trace import SAMPLED, UNSAMPLED, begin_trace
from appliance.web.exchange import Exchange
from appliance.web.request import HttpRequest

SPAN_NAME = "http-request"


class RequestTracer:
    """Begins and ends the spans of a listener's requests."""

    def __init__(self, sampler: Sampler, keep: Callable[[FinishedSpan], None]) -> None:
        self._sampler, self._keep = sampler, keep

    def begin(self, request: HttpRequest) -> None:
        """A request has arrived: it gets a span, in the client's trace if there is one, and a record if it is wanted.

        Who is called further on, through a proxy, hears of the decision in the header.
        """
        joined = request.span
        span = begin_trace() if joined is None else joined
        wanted = self._sampler.wants(span.trace_id, None if joined is None else joined.sampled)
        span = request.span = replace(span, flags=SAMPLED if wanted else UNSAMPLED)
        if joined is not None:
            request.headers[b"traceparent"] = span.traceparent()
        if wanted:
            now = time.perf_counter()
            request.trace = RequestTrace(span, now, SpanClock(now, time.time_ns()))

    def end(self, exchange: Exchange) -> None:
        """An answer has ended, in whatever way. Probes and pages are recorded only as parts of a client's trace."""
        request = exchange.request
        trace = request.trace
        if trace is None or (trace.describe is None and not trace.span.parent_id):
            return
        attributes: dict[str, Attribute] = {
            "http.request.method": request.method,
            "url.path": request.path,
            "http.response.status_code": exchange.status,
        }
        if (client_id := request.header("x-request-id")) is not None:
            attributes["x_request_id"] = client_id
        broken = exchange.broken or not exchange.finished
        if broken:
            attributes["error.type"] = "client_gone"
        for span in trace.finish(SPAN_NAME, time.perf_counter(), attributes, failed=broken or exchange.status >= 500):
            self._keep(span)


def follow(trace: RequestTrace, account: Account) -> None:
    """Let the spans of a request say what its account says, and where it was placed."""
    trace.describe = partial(describe, account)
    account.routed.trace = trace


def describe(account: Account) -> dict[str, Attribute]:
    """What the span of a request says of it; only what is known."""
    found: dict[str, Attribute] = {
        "request_id": account.id,
        "endpoint": account.endpoint,
        "streaming": account.stream,
        "input_tokens": account.prompt_tokens,
        "output_tokens": account.output_tokens,
        "cached_tokens": account.cached_tokens,
    }
    if account.model:
        found["model"] = account.model
    if account.workers:
        found["worker_id"] = account.workers[-1]
    if account.prefill_workers:
        found["prefill_worker_id"] = account.prefill_workers[-1]
    if account.first_token is not None:
        found["ttft_ms"] = round((account.first_token - account.started) * 1e3, 3)
    if account.error is not None:
        found["error.type"] = account.error.code
    return found


def tell_workers(requests: Sequence[EngineRequest], trace: RequestTrace) -> list[EngineRequest]:
    """The same requests; the spans of their workers will be parts of this one."""
    header = trace.span.traceparent().decode()
    return [msgspec.structs.replace(request, traceparent=header) for request in requests]

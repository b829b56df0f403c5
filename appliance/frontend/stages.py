"""How long requests spend in each stage of their path, and what the last request of a worker was like."""

import time
from types import TracebackType
from typing import Literal, NamedTuple

from appliance.frontend.routed import Routed
from appliance.telemetry.cells import HistogramCell, Metrics

FE = "dynamo_frontend_"
RP = "dynamo_request_plane_"


class WorkerMark(NamedTuple):
    """One request, as its worker's metrics show it."""

    ttft_s: float
    itl_s: float
    """Mean gap between its tokens."""
    prompt_tokens: int


class StageCells:
    """The series of stages, looked up once."""

    def __init__(self, metrics: Metrics) -> None:
        def stage(name: str) -> HistogramCell:
            return metrics.histogram(FE + "stage_duration_seconds", name)

        self._preprocess, self._route = stage("preprocess"), stage("route")
        self._roundtrip, self._postprocess = stage("transport_roundtrip"), stage("postprocess")
        self._send = metrics.histogram(RP + "send_seconds")
        self._first = metrics.histogram(RP + "roundtrip_ttft_seconds")
        self.detokenized = metrics.cell(FE + "detokenize_token_count")

    def count(
        self,
        started: float,
        prepared: float | None,
        routed: Routed,
        first_token: float | None,
        last_step_s: float | None,
    ) -> None:
        """A request has ended; stages that it did not come to are left out."""
        if prepared is None:
            return
        self._preprocess.observe(prepared - started)
        if routed.placed_at is not None:
            self._route.observe(routed.route_s)
        if routed.send_s is not None:
            self._send.observe(routed.send_s)
        # A stream that moved behind its first token has been sent again since.
        if routed.sent_at is not None and first_token is not None and first_token >= routed.sent_at:
            self._roundtrip.observe(first_token - routed.sent_at)
            self._first.observe(first_token - routed.sent_at)
        if last_step_s is not None:
            self._postprocess.observe(last_step_s)


class PromptTimes:
    """Takes the time of templates and tokenizers; see `preprocess.prepare.Measure`."""

    def __init__(self, metrics: Metrics) -> None:
        self._template = metrics.histogram(FE + "template_seconds")
        self._tokenize = metrics.histogram(FE + "tokenize_seconds")
        self._latency_ms = metrics.histogram(FE + "tokenizer_latency_ms", "tokenize")

    def __call__(self, part: Literal["template", "tokenize"]) -> "_Part":
        """A block whose time is taken when it is left without an error."""
        return _Part(self, part)

    def observe(self, part: str, seconds: float) -> None:
        """One block took so long."""
        if part == "template":
            self._template.observe(seconds)
        else:
            self._tokenize.observe(seconds)
            self._latency_ms.observe(seconds * 1e3)


class _Part:
    __slots__ = ("_name", "_started", "_times")

    def __init__(self, times: PromptTimes, name: str) -> None:
        self._times, self._name = times, name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._times.observe(self._name, time.perf_counter() - self._started)

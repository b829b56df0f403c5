"""How long requests spend in each stage of their path."""

import time
from collections.abc import Sequence

from appliance.frontend.account import Account
from appliance.preprocess.measure import Part
from appliance.telemetry.cells import HistogramCell, Metrics

FE = "dynamo_frontend_"
RP = "dynamo_request_plane_"


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

    def count(self, prepared: Sequence[Account]) -> None:
        """These have ended, and had their prompts prepared; further stages that one did not come to are left out."""
        self._preprocess.observe_all([(one.prepared or one.started) - one.started for one in prepared])
        self._postprocess.observe_all([one.last_step_s for one in prepared if one.last_step_s is not None])
        routes = [one.routed for one in prepared]
        self._route.observe_all([route.route_s for route in routes if route.placed_at is not None])
        self._send.observe_all([route.send_s for route in routes if route.send_s is not None])
        sent = [one for one in prepared if one.routed.sent_at is not None]
        roundtrips = [(one.first_token or 0.0) - (one.routed.sent_at or 0.0) for one in sent]
        # A stream that moved behind its first token has been sent again since.
        roundtrips = [taken_s for taken_s in roundtrips if taken_s >= 0]
        self._roundtrip.observe_all(roundtrips)
        self._first.observe_all(roundtrips)


class PromptTimes:
    """Takes the time of templates and tokenizers; see `preprocess.measure.Measure`."""

    def __init__(self, metrics: Metrics) -> None:
        self._template = metrics.histogram(FE + "template_seconds")
        self._tokenize = metrics.histogram(FE + "tokenize_seconds")
        self._latency_ms = metrics.histogram(FE + "tokenizer_latency_ms", "tokenize")

    def now(self) -> float:
        """Seconds on the clock of all stages."""
        return time.perf_counter()

    def observe(self, part: Part, seconds: float) -> None:
        """One block took so long."""
        if part == "template":
            self._template.observe(seconds)
        else:
            self._tokenize.observe(seconds)
            self._latency_ms.observe(seconds * 1e3)

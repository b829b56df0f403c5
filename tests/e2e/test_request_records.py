"""What is written down of single requests: spans from the front end and its workers in one trace, the audit log."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal
from tests.helpers.collector import Collector, serve_collector

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "the words of the client"


@dataclass
class Recorded:
    """An appliance that records everything, and where."""

    appliance: Appliance
    collector: Collector
    audit: Path

    def spans_of(self, trace_id: str) -> dict[str, list[dict[str, Any]]]:
        """Spans of a trace by name, once the request's own has come and its workers' too."""
        eventually(lambda: {"http-request", "handle_payload"} <= {span["name"] for span in self._spans(trace_id)})
        found: dict[str, list[dict[str, Any]]] = {}
        for span in self._spans(trace_id):
            found.setdefault(span["name"], []).append(span)
        return found

    def records(self) -> list[dict[str, Any]]:
        """Events of the audit log."""
        lines = self.audit.read_text().splitlines() if self.audit.exists() else []
        return [json.loads(line)["event"] for line in lines]

    def _spans(self, trace_id: str) -> list[dict[str, Any]]:
        return [span for span in self.collector.spans if span["traceId"] == trace_id]


@pytest.fixture(scope="module")
def recorded(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    room = tmp_path_factory.mktemp("records")
    collector = Collector()
    with serve_collector(collector):
        environ = {
            "OTEL_EXPORT_ENABLED": "1",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url,
            "DYN_AUDIT_SINKS": "jsonl",
            "DYN_AUDIT_OUTPUT_PATH": str(room / "audit.jsonl"),
        }
        args = ("--engine", "mocker", "--prefill", "1", "--decode", "1", "--enforce-disagg", "m")
        with appliance(binary, room / "state", *args, environ=environ) as one:
            yield Recorded(one, collector, room / "audit.jsonl")


def ask(one: Appliance, flags: str, **members: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, **members}
    headers = {"content-type": "application/json", "traceparent": f"00-{TRACE[:-1]}{flags}-{PARENT}-01"}
    request = urllib.request.Request(one.url + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: bytes = answer.read()
        return found


def test_one_trace_from_the_client_to_both_workers(recorded: Recorded) -> None:
    ask(recorded.appliance, "1")
    spans = recorded.spans_of(TRACE[:-1] + "1")
    (own,), (placed,), (prefilled,) = spans["http-request"], spans["route"], spans["prefill_routing"]
    eventually(lambda: len(recorded.spans_of(TRACE[:-1] + "1")["handle_payload"]) == 2)
    workers = recorded.spans_of(TRACE[:-1] + "1")["handle_payload"]
    assert own["parentSpanId"] == PARENT
    assert {span["parentSpanId"] for span in (placed, prefilled, *workers)} == {own["spanId"]}
    assert len({span["spanId"] for span in (own, placed, prefilled, *workers)}) == 5
    said = own["attributes"]
    assert (said["model"], said["output_tokens"], said["http.response.status_code"]) == ("m", 4, 200)
    by_phase = {span["attributes"].get("phase", "decode"): span["attributes"] for span in workers}
    assert by_phase["prefill"]["worker_id"] == prefilled["attributes"]["worker_id"] == said["prefill_worker_id"]
    assert by_phase["decode"]["worker_id"] == placed["attributes"]["worker_id"] == said["worker_id"]
    assert by_phase["decode"]["output_tokens"] == 4
    assert all(int(span["startTimeUnixNano"]) >= int(own["startTimeUnixNano"]) for span in (placed, prefilled))
    assert SECRET not in json.dumps(recorded.collector.spans)


def test_probes_are_no_traces_and_refusals_are(recorded: Recorded) -> None:
    recorded.appliance.get("/health")
    status, _ = refusal(lambda: recorded.appliance.chat("nobody", "x"))
    eventually(
        lambda: any(s["attributes"].get("http.response.status_code") == status for s in recorded.collector.spans)
    )
    assert {s["attributes"].get("url.path") for s in recorded.collector.named("http-request")} == {
        "/v1/chat/completions"
    }


def test_chat_requests_that_ask_for_it_are_on_record(recorded: Recorded) -> None:
    ask(recorded.appliance, "2")
    ask(recorded.appliance, "3", store=True)
    streamed = ask(recorded.appliance, "4", store=True, stream=True).decode()
    eventually(lambda: len(recorded.records()) == 2)
    whole, stream = recorded.records()
    assert [one["requested_streaming"] for one in (whole, stream)] == [False, True]
    assert whole["request"]["messages"][0]["content"] == SECRET
    texts = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    shown = "".join(choice["delta"].get("content") or "" for event in texts for choice in event["choices"])
    assert stream["response"]["choices"][0]["message"]["content"] == shown
    assert stream["response"]["object"] == "chat.completion"
    assert stream["response"]["usage"]["completion_tokens"] == whole["response"]["usage"]["completion_tokens"] == 4
    assert recorded.audit.stat().st_mode & 0o777 == 0o600
    assert SECRET not in recorded.appliance.log.read_text()
    metrics = recorded.appliance.get("/metrics").decode()
    assert 'appliance_audit_records_total{fate="written"} 2.0' in metrics
    assert 'appliance_trace_spans_total{fate="exported"}' in metrics

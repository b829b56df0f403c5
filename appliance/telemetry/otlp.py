"""Spans in the JSON form of OTLP, as collectors take it over HTTP. Pure."""

from collections.abc import Iterable
from typing import Any

from appliance.telemetry.spans import Attribute, Attributes, FinishedSpan

KINDS = {"internal": 1, "server": 2}
STATUS_ERROR = 2
SCOPE = "dynamo-appliance"


def export_request(resource: Attributes, version: str, spans: Iterable[FinishedSpan]) -> dict[str, Any]:
    """The body of one export: an `ExportTraceServiceRequest`. `resource` says who recorded the spans."""
    scope = {"scope": {"name": SCOPE, "version": version}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}


def _span(span: FinishedSpan) -> dict[str, Any]:
    # The JSON form has ids in hex, and 64-bit numbers as text.
    members: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(max(span.start_ns, span.end_ns)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id:
        members["parentSpanId"] = span.parent_id
    if span.failed:
        members["status"] = {"code": STATUS_ERROR}
    return members


def _attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}

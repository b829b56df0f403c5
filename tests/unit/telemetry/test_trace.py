"""Trace headers: what is kept, what is new, what is ignored."""

import pytest

from appliance.telemetry.trace import continue_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def header(version: str = "00", trace: str = TRACE, span: str = SPAN, flags: str = "01", rest: str = "") -> bytes:
    return f"{version}-{trace}-{span}-{flags}{rest}".encode()


def test_the_trace_is_kept_and_the_span_is_new() -> None:
    spans = [continue_trace(header()) for _ in range(100)]
    assert {(s.trace_id, s.parent_id, s.flags) for s in spans if s} == {(TRACE, SPAN, "01")}
    assert len({s.span_id for s in spans if s} - {SPAN}) == 100
    first = spans[0]
    assert first is not None
    child = continue_trace(first.traceparent())
    assert child is not None
    assert (child.trace_id, child.parent_id) == (TRACE, first.span_id)


@pytest.mark.parametrize(("flags", "passed_on"), [("00", "00"), ("01", "01"), ("03", "01"), ("fe", "00")])
def test_only_the_sampled_flag_is_passed_on(flags: str, passed_on: str) -> None:
    span = continue_trace(header(flags=flags))
    assert span is not None
    assert span.flags == passed_on


def test_a_later_version_may_say_more() -> None:
    assert continue_trace(header(version="01", rest="-more")) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"junk",
        header(version="ff"),
        header(trace="0" * 32),
        header(span="0" * 16),
        header(trace=TRACE.upper()),
        header(trace=TRACE[1:]),
        header(rest="-more"),
        header(rest="0"),
        header() + b", " + header(),
        b"\xff" + header()[1:],
    ],
)
def test_what_is_no_header_is_ignored(wrong: bytes) -> None:
    assert continue_trace(wrong) is None

"""Where spans, audit records and logs go: what may be set, and how a mistake is said."""

import pytest

from appliance.core.collector import parse_collector
from appliance.core.config import load_settings
from appliance.core.errors import UsageError


@pytest.mark.parametrize(
    ("url", "port", "path"),
    [
        ("http://host:4318", 4318, "/v1/traces"),
        ("http://host:4318/", 4318, "/v1/traces"),
        ("http://host:4318/v1/traces", 4318, "/v1/traces"),
        ("https://host/otlp/in", 443, "/otlp/in"),
        ("http://[::1]:1", 1, "/v1/traces"),
    ],
)
def test_urls(url: str, port: int, path: str) -> None:
    found = parse_collector(url)
    assert (found.port, found.path) == (port, path)


@pytest.mark.parametrize(
    "url", ["", "host:4318", "grpc://host:4317", "http://", "http://h:x", "http://u:p@h", "http://h?a"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError, match=r"trace\.endpoint"):
        parse_collector(url)


def load(**environ: str) -> list[str]:
    return load_settings(config_file=None, environ=environ, flags={}).warnings


def test_the_port_of_grpc_is_doubted_only_when_it_is_used() -> None:
    url = "http://localhost:4317"
    assert load(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url) == []
    (warning,) = load(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url, OTEL_EXPORT_ENABLED="1")
    assert "gRPC" in warning


def test_empty_variables_of_opentelemetry_are_not_set() -> None:
    assert load(OTEL_TRACES_SAMPLER="", OTEL_TRACES_SAMPLER_ARG="", OTEL_SERVICE_NAME="") == []


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"DYN_AUDIT_SINKS": "nats"}, "audit.sinks"),
        ({"DYN_AUDIT_SINKS": "stderr,jsonl"}, "audit.output_path"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "trace.sampler"),
        ({"DYN_LOGGING_JSONL": "maybe"}, "log.format"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1.5"}, "trace.sampler_arg"),
    ],
)
def test_mistakes_name_the_setting(environ: dict[str, str], key: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(**environ)
    assert caught.value.param == key


@pytest.mark.parametrize(
    ("environ", "form"),
    [
        ({"DYN_LOGGING_JSONL": "true"}, "jsonl"),
        ({"DYN_LOGGING_JSONL": "0"}, "text"),
        ({"DYN_LOGGING_JSONL": ""}, "text"),
        ({"DYN_LOGGING_JSONL": "1", "APPLIANCE_LOG_FORMAT": "text"}, "text"),
    ],
)
def test_dynamos_switch_of_json_lines(environ: dict[str, str], form: str) -> None:
    assert load_settings(config_file=None, environ=environ, flags={}).settings.log.format == form

"""Where a collector of OpenTelemetry takes spans: its URL, taken apart."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance.core.errors import UsageError

PORTS = {"http": 80, "https": 443}
TRACES_PATH = "/v1/traces"
HTTP_PORT = 4318
GRPC_PORT = 4317
"""The ports at which collectors take OTLP over HTTP, and over gRPC, unless they are told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Address and path of one collector."""

    scheme: str
    host: str
    port: int
    path: str


def parse_collector(url: str) -> Collector:
    """The collector behind a URL with or without a path. Raises `UsageError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"trace.endpoint {url!r} cannot be read", param="trace.endpoint") from None
    if parts.scheme not in PORTS or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UsageError(
            f"trace.endpoint {url!r} must have the form http://HOST:{HTTP_PORT}{TRACES_PATH}", param="trace.endpoint"
        )
    return Collector(
        scheme=parts.scheme,
        host=parts.hostname,
        port=PORTS[parts.scheme] if port is None else port,
        path=TRACES_PATH if parts.path in ("", "/") else parts.path,
    )

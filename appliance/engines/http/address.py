"""Where a server is: scheme, host, port and the prefix in front of its `/v1` routes."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance.core.errors import UsageError

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """A server's base URL, taken apart."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    """Path in front of every route, without a slash at its end."""

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL again."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_address(url: str) -> ServerAddress:
    """The address of a base URL, with or without `/v1` at its end. Raises `UsageError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"the engine URL {url!r} cannot be read") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise UsageError(f"the engine URL {url!r} must have the form http://HOST:PORT")
    if parts.username or parts.password:
        raise UsageError("the engine URL must hold no password; give --engine-arg api_key_file=PATH")
    if parts.query or parts.fragment:
        raise UsageError(f"the engine URL {url!r} must end with its host, port or path")
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return ServerAddress(
        scheme=parts.scheme, host=parts.hostname, port=PORTS[parts.scheme] if port is None else port, prefix=prefix
    )

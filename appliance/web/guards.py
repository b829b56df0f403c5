"""Who may call: API keys, and the rules that keep web pages from driving a local appliance. No I/O."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from appliance.core.errors import Forbidden, Unauthorized, UsageError
from appliance.core.settings import HttpSettings
from appliance.web.exchange import Exchange
from appliance.web.heads import encode_headers
from appliance.web.request import HttpRequest

OPEN_PATHS = frozenset(("/live", "/health"))
"""The probes, where they usually are."""
STATIC_PATHS = frozenset(("/", "/docs", "/favicon.ico"))
"""Pages without data; they ask for the key themselves. Open to GET and HEAD."""
STATIC_PREFIX = "/static/"
EXPOSED_HEADERS = "x-request-id, retry-after"


def hash_key(secret: str) -> str:
    """What is stored of a key: its SHA-256 in hex. Keys are long and random, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The hashes of the valid keys. False when there is none."""

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        self._hashes = tuple(value.lower().encode() for value in hashes)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def admits(self, secret: str) -> bool:
        """The key is valid. Takes the same time for every wrong key, whichever one it resembles."""
        presented = hash_key(secret).encode()
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, presented)
        return found


def presented_key(request: HttpRequest) -> str | None:
    """The key that the client shows: `Authorization: Bearer KEY`, else `x-api-key`."""
    scheme, _, credentials = (request.header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return request.header("x-api-key")


def is_loopback(host: str) -> bool:
    """The name or address can only mean this machine."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str:
    """The host of `host`, `host:port` or `[v6]:port`, in lower case and without brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


@lru_cache(maxsize=256)  # asked for every request, and clients send few different names
def _names_loopback(authority: bytes) -> bool:
    return is_loopback(host_of(authority.decode("latin-1")))


def check_bind(settings: HttpSettings, *, has_keys: bool) -> None:
    """Raise `UsageError` when the address is reachable from outside and nobody would need a key."""
    if has_keys or settings.insecure_no_auth or is_loopback(settings.host):
        return
    raise UsageError(
        f"cannot listen on {settings.host} without an API key: make one with "
        "`dynamo-appliance keys create NAME`, or pass --insecure-no-auth to serve everybody"
    )


@dataclass(frozen=True, kw_only=True)
class AccessRules:
    """The rules of one listener at one time; made anew when keys change. A `Guard` for the listener."""

    keys: KeyRing = field(default_factory=KeyRing)
    loopback: bool = True
    """The port is bound to loopback, so the only honest Host names are loopback's."""
    cors_origins: tuple[str, ...] = ()
    open_paths: frozenset[str] = OPEN_PATHS
    """Never need a key."""
    keyless: bool = field(init=False)
    """There is no key, so nobody needs one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyless", not self.keys)

    def __call__(self, exchange: Exchange) -> bool:
        """Let the request pass, or answer a CORS preflight (False). Raises `Forbidden` or `Unauthorized`."""
        request = exchange.request
        if b"origin" in request.headers:
            return self._admit_page(exchange, request)
        if self.keyless:
            self._check_host(request)
        else:
            self.check_key(request)
        return True

    def _admit_page(self, exchange: Exchange, request: HttpRequest) -> bool:
        origin = request.headers[b"origin"].decode("latin-1")
        if self.keyless:
            self._check_page(request, origin)
        if self.allows_origin(origin):
            exchange.extra_headers += encode_headers(self.cors_headers(origin))
            if request.method == "OPTIONS" and b"access-control-request-method" in request.headers:
                exchange.respond(204, b"", headers=preflight_headers(request))
                return False
        self.check_key(request)
        return True

    def _check_page(self, request: HttpRequest, origin: str) -> None:
        """Without keys, refuse what a web page of another site could send. Raises `Forbidden`.

        A page can make the browser call us by our address (it shows as a foreign Origin), or by its own name that
        resolves to us (it shows as a Host that is not ours).
        """
        self._check_host(request)
        if self.allows_origin(origin):
            return
        authority = request.header("host")
        if authority is None or origin.lower().partition("://")[2] != authority.lower():
            raise Forbidden("cannot serve this Origin: allow it with --cors-origin, or use an API key")

    def _check_host(self, request: HttpRequest) -> None:
        authority = request.headers.get(b"host")
        if self.loopback and authority is not None and not _names_loopback(authority):
            raise Forbidden("cannot serve this Host: the appliance answers only to local names without an API key")

    def check_key(self, request: HttpRequest) -> None:
        """Raise `Unauthorized` unless the path is open, no keys exist, or the client shows a valid one."""
        if self.keyless or is_open(request, self.open_paths):
            return
        secret = presented_key(request)
        if secret is None:
            raise Unauthorized("cannot serve without an API key: send `Authorization: Bearer KEY`")
        if not self.keys.admits(secret):
            raise Unauthorized("cannot serve with this API key: it is not known here")

    def allows_origin(self, origin: str) -> bool:
        """The user named this origin, or all."""
        return "*" in self.cors_origins or origin in self.cors_origins

    def cors_headers(self, origin: str) -> list[tuple[str, str]]:
        """Headers that let a page of an allowed origin read the answer."""
        if "*" in self.cors_origins:
            allowed = [("access-control-allow-origin", "*")]
        else:
            allowed = [("access-control-allow-origin", origin), ("vary", "origin")]
        return [*allowed, ("access-control-expose-headers", EXPOSED_HEADERS)]


def is_open(request: HttpRequest, open_paths: frozenset[str] = OPEN_PATHS) -> bool:
    """The path needs no key."""
    path = request.path
    if path in open_paths:
        return True
    return request.method in ("GET", "HEAD") and (path in STATIC_PATHS or path.startswith(STATIC_PREFIX))


def preflight_headers(request: HttpRequest) -> list[tuple[str, str]]:
    """Headers of the answer to a preflight: any method and header may be used by an allowed origin."""
    return [
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", request.header("access-control-request-headers") or "*"),
        ("access-control-max-age", "600"),
    ]

"""Bytes of one connection in, complete requests out; no I/O.

Strict where leniency lets requests be smuggled: no message has both lengths, an unknown transfer coding, or two hosts.
"""

from collections import deque
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from urllib.parse import unquote

import httptools

from appliance.core.errors import ApplianceError, BodyTooLarge, InvalidRequest, NotImplementedHere
from appliance.web.errors import ExpectationFailed, HeadersTooLarge
from appliance.web.limits import HttpLimits
from appliance.web.request import HttpRequest


class Phase(Enum):
    """How far the message that is now arriving has come."""

    IDLE = 0
    HEAD = 1
    BODY = 2


# Members of an enum are found slowly, and each request looks at them a dozen times.
_IDLE, _HEAD, _BODY = Phase


class _Refused(Exception):
    """Stops the C parser; the reason is already in `RequestParser.error`."""


class RequestParser:
    """Collects requests in `requests`, in order. After `error` is set nothing more is taken.

    The methods named `on_...` are called by httptools, inside `feed`.
    """

    __slots__ = (
        "_body",
        "_body_limit",
        "_body_progress",
        "_fields",
        "_head_bytes",
        "_headers",
        "_http",
        "_limit_digits",
        "_limits",
        "_pending",
        "_quiet_bytes",
        "_read_bytes",
        "_target",
        "error",
        "peer",
        "phase",
        "requests",
        "rest",
        "wants_continue",
    )

    def __init__(self, peer: str, limits: HttpLimits, body_limit_bytes: int) -> None:
        self.peer = peer
        self.requests: deque[HttpRequest] = deque()
        self.error: ApplianceError | None = None
        """Why what followed the last request is no request. The answer to it must close the connection."""
        self.phase = _IDLE
        self.wants_continue = False
        """The client waits for `100 Continue` before it sends the body."""
        self.rest = b""
        """Bytes after the last request, when that asks for an upgrade: they may belong to another protocol."""
        self._limits = limits
        self._body_limit = body_limit_bytes
        self._limit_digits = len(str(body_limit_bytes))  # a number of fewer digits is smaller
        self._http = httptools.HttpRequestParser(self)
        self._pending: HttpRequest | None = None
        self._body: bytes | bytearray = b""
        self._fields: list[tuple[bytes, bytes]] = []  # headers, or trailers, that nobody has looked at yet
        self._headers: dict[bytes, bytes] = {}
        self._target = b""
        self._head_bytes = 0
        self._quiet_bytes = 0
        self._read_bytes = 0  # of all reads since the message began, so no less than its head has
        self._body_progress = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Never raises; see `requests` and `error`."""
        if self.error is not None:
            return
        before = self.phase
        size = len(data)
        self._read_bytes += size
        self._quiet_bytes += size
        self._body_progress += size
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._on_upgrade(data[stop.args[0] :])
        except httptools.HttpParserError as reason:
            self._look_at_fields()  # what is wrong with them was wrong before this
            if self.error is None:
                self.error = InvalidRequest(f"cannot read the HTTP request: {reason}")
        if self.phase is _IDLE:
            self._read_bytes = self._quiet_bytes = 0
        else:
            self._on_part_of_message(before)

    def take_body_progress(self) -> int:
        """Bytes received since the last call."""
        progress, self._body_progress = self._body_progress, 0
        return progress

    def resume(self) -> None:
        """Go on with HTTP after a request for an upgrade was answered without one."""
        rest, self.rest = self.rest, b""
        if rest:
            self.feed(rest)

    def on_message_begin(self) -> None:
        self.phase = _HEAD
        self._headers = {}
        self._target = b""
        self._head_bytes = self._quiet_bytes = 0

    def on_url(self, data: bytes) -> None:
        self._target = self._target + data if self._target else data

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._read_bytes > self._limits.head_bytes:  # else they cannot be too long
            self._count_fields()
        self._take_headers()
        headers, http = self._headers, self._http
        keep_alive = http.should_keep_alive()
        # Where nothing is said of the connection's end, only HTTP/1.1 keeps it open. To ask for the version is slow.
        says_nothing = keep_alive and b"connection" not in headers and b"proxy-connection" not in headers
        http10 = not says_nothing and http.get_http_version() == "1.0"
        if not http10 and b"host" not in headers:
            self._refuse(InvalidRequest("cannot read the HTTP request: no Host"))
        if b"transfer-encoding" in headers or b"content-length" in headers:
            self._check_framing(http10)
        path, raw_path, query = _split_target(self._target)
        request = HttpRequest(http.get_method().decode(), path, raw_path, query, headers, b"", self.peer)
        if not says_nothing:
            request.http10, request.keep_alive = http10, keep_alive
        request.upgrade = http.should_upgrade()
        self._pending = request
        self.phase = _BODY
        self._quiet_bytes = 0
        if b"expect" in headers and not http10:
            if headers[b"expect"].lower() != b"100-continue":
                self._refuse(ExpectationFailed("cannot meet the Expect header: only 100-continue is known"))
            self.wants_continue = True

    def on_body(self, data: bytes) -> None:
        self._quiet_bytes = 0
        self.wants_continue = False
        body = self._body
        if len(body) + len(data) > self._body_limit:
            self._refuse(self._too_large())
        if not body:
            self._body = data  # the common case, one piece: no copy
            return
        if not isinstance(body, bytearray):
            body = self._body = bytearray(body)
        body += data

    def on_message_complete(self) -> None:
        if self._fields:  # trailers, which mean nothing to us
            self._count_fields()
            self._fields = []
        request, self._pending = self._pending, None
        assert request is not None
        body = self._body
        request.body = body if type(body) is bytes else bytes(body)
        self._body = b""
        self.phase = _IDLE
        self.wants_continue = False
        self.requests.append(request)

    def _on_part_of_message(self, before: Phase) -> None:
        """The bytes have ended in the middle of a message: is it within its bounds so far?"""
        self._look_at_fields()
        if before is self.phase and self._quiet_bytes > self._limits.head_bytes:
            # A header or trailer that never ends: httptools shows it to us only when it is complete.
            self._refuse_quietly(HeadersTooLarge("cannot take the request: its headers are too large"))

    def _look_at_fields(self) -> None:
        """Take what there is of an unfinished head or of unfinished trailers."""
        if self.error is None and self._fields:
            with suppress(_Refused):
                self._count_fields()
                if self.phase is _HEAD:
                    self._take_headers()
                self._fields = []

    def _take_headers(self) -> None:
        """Check and keep the fields that came."""
        fields, self._fields = self._fields, []
        headers = self._headers
        for name, value in fields:
            name = name.lower()
            if name in headers:
                if name == b"host":
                    self._refuse(InvalidRequest("cannot read the HTTP request: more than one Host"))
                value = headers[name] + b", " + value
            headers[name] = value
        if len(headers) > self._limits.header_count:
            self._refuse(HeadersTooLarge("cannot take the request: too many headers"))

    def _count_fields(self) -> None:
        self._head_bytes += sum(len(name) + len(value) + 4 for name, value in self._fields)
        if self._head_bytes + len(self._target) > self._limits.head_bytes:
            self._refuse(HeadersTooLarge("cannot take the request: its headers are too large"))

    def _check_framing(self, http10: bool) -> None:
        headers = self._headers
        length = headers.get(b"content-length")
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            if length is not None or http10:
                self._refuse(InvalidRequest("cannot read the HTTP request: two ways of framing the body"))
            if coding.lower() != b"chunked":
                self._refuse(NotImplementedHere("cannot read the body: only the chunked transfer encoding is known"))
        elif length is not None:
            if not length.isdigit():
                self._refuse(InvalidRequest("cannot read the HTTP request: wrong Content-Length"))
            if len(length) >= self._limit_digits and (len(length) > 18 or int(length) > self._body_limit):
                self._refuse(self._too_large())

    def _on_upgrade(self, rest: bytes) -> None:
        """The C parser stopped behind the head of a request with an `Upgrade` header, or a CONNECT."""
        request = self.requests[-1]
        if request.method == "CONNECT":
            self.requests.pop()
            self.error = NotImplementedHere("cannot CONNECT: this server is no proxy")
        elif b"content-length" in request.headers or b"transfer-encoding" in request.headers:
            # The parser skips the body of an upgrade request. Offers such as h2c come with real POSTs, so read the
            # message again as what it is without the offer.
            self.requests.pop()
            self._http = httptools.HttpRequestParser(self)
            self.feed(_head_without_upgrade(request) + rest)
        else:
            self.rest = rest

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"cannot take the request: its body is over {self._body_limit / 1e6:g} MB")

    def _refuse_quietly(self, error: ApplianceError) -> None:
        if self.error is None:
            self.error = error

    def _refuse(self, error: ApplianceError) -> None:
        self.error = error
        raise _Refused


@lru_cache(maxsize=256)  # nearly all requests have one of a few targets
def _split_target(target: bytes) -> tuple[str, bytes, str]:
    """Decoded path, path as sent, and query of a request target, which may be absolute (`http://host/path`)."""
    text = target.decode("latin-1")
    if not text.startswith("/") and "://" in text:
        _, _, text = text.partition("://")
        slash, mark = text.find("/"), text.find("?")
        cut = min((at for at in (slash, mark) if at >= 0), default=len(text))
        text = text[cut:]
        if not text.startswith("/"):
            text = "/" + text
    path, _, query = text.partition("?")
    return unquote(path) if "%" in path else path, path.encode("latin-1"), query.partition("#")[0]


def _head_without_upgrade(request: HttpRequest) -> bytes:
    target = request.raw_path + (b"?" + request.query.encode("latin-1") if request.query else b"")
    lines = [request.method.encode() + b" " + target + (b" HTTP/1.0" if request.http10 else b" HTTP/1.1")]
    lines += [
        name + b": " + value for name, value in request.headers.items() if name not in (b"upgrade", b"connection")
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"

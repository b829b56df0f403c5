"""Request bodies that come packed (`Content-Encoding`), unpacked in bounded steps: a small one cannot fill memory."""

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import trio
import zstandard

from appliance.core.errors import BodyTooLarge, InvalidRequest
from appliance.web.errors import UnsupportedEncoding
from appliance.web.request import HttpRequest

CODINGS_LIMIT = 2
"""Encodings on top of each other in one body."""
PARTS_LIMIT = 4096
"""Gzip members or zstd frames in one body; each costs something even when it is empty."""
THREADS = 2
INLINE_PACKED_BYTES = 8 * 1024
INLINE_BYTES = 256 * 1024
"""Bodies up to here are unpacked at once, in under a millisecond; larger ones in a thread."""
ZSTD_WINDOW_BYTES = 8 << 20  # what RFC 9659 lets a sender of HTTP content ask of us
_ZSTD_GROWTH = 1 << 15  # no byte of zstd gives more bytes than this: a block of 128 KiB takes at least four
_STEP_BYTES = 64 * 1024


class _Part(Protocol):
    """One gzip member, deflate stream or zstd frame that is being unpacked."""

    @property
    def eof(self) -> bool:
        """Its end was reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was fed behind its end."""
        ...

    def feed(self, data: memoryview) -> Iterator[bytes]:
        """Unpack the next bytes. Raises an error of its library for bytes that are wrong."""
        ...


class _ZlibPart:
    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: memoryview) -> Iterator[bytes]:
        piece = self._inner.decompress(data, _STEP_BYTES)
        yield piece
        while not self._inner.eof and (self._inner.unconsumed_tail or len(piece) == _STEP_BYTES):
            piece = self._inner.decompress(self._inner.unconsumed_tail, _STEP_BYTES)
            yield piece


class _ZstdPart:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: memoryview) -> Iterator[bytes]:
        yield self._inner.decompress(data)


class BodyUnpacker:
    """Unpacks the bodies of one listener's requests, the large ones in threads of its own."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: largest unpacked body."""
        self._limit = limit_bytes
        self._threads = trio.CapacityLimiter(THREADS)

    async def unpack(self, request: HttpRequest) -> None:
        """Replace a packed body by the plain one; the header goes, for handlers see what it describes.

        Raises `UnsupportedEncoding`, `BodyTooLarge`, and `InvalidRequest` for data that is broken or ends too early.
        Cancelling waits for the thread, at most some hundred ms, and changes nothing.
        """
        codings = read_codings(request.headers[b"content-encoding"])
        if codings and request.body:
            request.body = await self._unpack(request.body, codings)
        del request.headers[b"content-encoding"]

    async def _unpack(self, body: bytes, codings: list[str]) -> bytes:
        small = min(self._limit, INLINE_BYTES)
        if len(body) <= INLINE_PACKED_BYTES:
            try:
                return unpack(body, codings, small)
            except BodyTooLarge:
                if small == self._limit:
                    raise
        return await trio.to_thread.run_sync(unpack, body, codings, self._limit, limiter=self._threads)


def read_codings(header: bytes) -> list[str]:
    """Names in a `Content-Encoding`, first applied first, without `identity`. Raises `UnsupportedEncoding`."""
    names = [name.strip().lower() for name in header.decode("latin-1").split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    unknown = [name for name in codings if name not in _UNPACKERS]
    if unknown:
        raise UnsupportedEncoding(f"cannot read a body in the encoding {unknown[0]!r}; known are gzip, deflate, zstd")
    if len(codings) > CODINGS_LIMIT:
        raise UnsupportedEncoding(f"cannot read a body in more than {CODINGS_LIMIT} encodings")
    return codings


def unpack(body: bytes, codings: list[str], limit_bytes: int) -> bytes:
    """The plain body. Uses at most about three times `limit_bytes`, whatever the body says.

    Raises `BodyTooLarge` as soon as it, or what lies between two encodings, is over the limit, and `InvalidRequest`.
    """
    for coding in reversed(codings):
        body = _UNPACKERS[coding](body, limit_bytes)
    return body


def _unpack_gzip(body: bytes, limit_bytes: int) -> bytes:
    return _unpack_parts(body, lambda: _ZlibPart(16 + zlib.MAX_WBITS), _STEP_BYTES, limit_bytes, "gzip")


def _unpack_deflate(body: bytes, limit_bytes: int) -> bytes:
    """With the zlib header that the standard asks for, or without, as some clients send it."""
    wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    bits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
    return _unpack_parts(body, lambda: _ZlibPart(bits), _STEP_BYTES, limit_bytes, "deflate")


def _unpack_zstd(body: bytes, limit_bytes: int) -> bytes:
    # The library unpacks all of what it is fed, so it is fed no more than can give as much as is allowed.
    step = max(64, limit_bytes // _ZSTD_GROWTH)
    return _unpack_parts(body, _ZstdPart, step, limit_bytes, "zstd")


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _unpack_gzip,
    "x-gzip": _unpack_gzip,
    "deflate": _unpack_deflate,
    "zstd": _unpack_zstd,
}


def _unpack_parts(body: bytes, new_part: Callable[[], _Part], step: int, limit_bytes: int, coding: str) -> bytes:
    plain = bytearray()
    view, at, parts = memoryview(body), 0, 0
    broken = InvalidRequest(f"cannot read the body: its {coding} data is broken or incomplete")
    part = new_part()
    while at < len(view):
        if part.eof:
            part, parts = new_part(), parts + 1
        if parts == PARTS_LIMIT:
            raise InvalidRequest(f"cannot read the body: its {coding} data is in more than {PARTS_LIMIT} parts")
        fed = view[at : at + step]
        try:
            for piece in part.feed(fed):
                plain += piece
                if len(plain) > limit_bytes:
                    raise BodyTooLarge(f"cannot take the request: its body is over {limit_bytes / 1e6:g} MB unpacked")
        except (zlib.error, zstandard.ZstdError):
            raise broken from None
        at += len(fed) - len(part.unused_data)
    if not part.eof:
        raise broken
    return bytes(plain)

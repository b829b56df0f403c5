"""Bodies packed as clients pack them."""

import gzip
import zlib
from collections.abc import Callable

import zstandard

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


def pack(data: bytes, coding: str) -> bytes:
    """The body in one content encoding."""
    return PACKERS[coding](data)

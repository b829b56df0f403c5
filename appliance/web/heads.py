"""Response heads as bytes."""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
Headers = Iterable[tuple[str, str]]

_LINE_BREAKS = str.maketrans({"\r": " ", "\n": " ", "\0": " "})


@lru_cache(maxsize=256)
def head_start(status: int, content_type: str) -> bytes:
    """Status line and content type; the few pairs that occur are kept."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    kind = f"content-type: {content_type.translate(_LINE_BREAKS)}\r\n" if content_type else ""
    return f"HTTP/1.1 {status} {phrase}\r\n{kind}".encode("latin-1", "replace")


def encode_headers(headers: Headers) -> bytes:
    """Header lines. Line breaks inside a value become spaces, so that no value can add a header."""
    return b"".join(
        f"{name}: {value}\r\n".encode("latin-1", "replace")
        if value.isprintable()
        else f"{name}: {value.translate(_LINE_BREAKS)}\r\n".encode("latin-1", "replace")
        for name, value in headers
    )


def has_no_body(status: int) -> bool:
    """The status says that no body follows, whatever the headers say."""
    return status in (204, 304) or status < 200

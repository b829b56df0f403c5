"""The request parser on awkward splits and mixtures."""

import pytest

from appliance.web.limits import HttpLimits
from appliance.web.parser import Phase, RequestParser

WIRE = (
    b"\r\nPOST /a?x=%20 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /b%2fc HTTP/1.1\r\nhost: h\r\n\r\n"
    b"PUT /d HTTP/1.1\r\nhost: h\r\ntransfer-encoding: Chunked\r\n\r\n4\r\nwxyz\r\n1\r\n!\r\n0\r\ntrailer: t\r\n\r\n"
)


def parse(*pieces: bytes, body_limit: int = 1000) -> RequestParser:
    parser = RequestParser("peer", HttpLimits(), body_limit)
    for piece in pieces:
        parser.feed(piece)
    return parser


def seen(parser: RequestParser) -> list[tuple[str, str, str, bytes]]:
    return [(r.method, r.path, r.query, r.body) for r in parser.requests]


EXPECTED = [("POST", "/a", "x=%20", b"hello"), ("GET", "/b/c", "", b""), ("PUT", "/d", "", b"wxyz!")]


@pytest.mark.parametrize("cut", range(len(WIRE)))
def test_any_split_gives_the_same_requests(cut: int) -> None:
    parser = parse(WIRE[:cut], WIRE[cut:])
    assert parser.error is None
    assert seen(parser) == EXPECTED
    assert parser.requests[0].headers[b"x-a"] == b"1, 2"
    assert parser.requests[1].raw_path == b"/b%2fc"
    assert b"trailer" not in parser.requests[2].headers
    assert parser.phase is Phase.IDLE


@pytest.mark.parametrize(
    ("data", "phase"),
    [
        (b"", Phase.IDLE),
        (b"G", Phase.HEAD),
        (b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n", Phase.HEAD),
        (b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\na", Phase.BODY),
        (b"GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab", Phase.IDLE),
    ],
)
def test_phases(data: bytes, phase: Phase) -> None:
    assert parse(data).phase is phase


def test_requests_before_an_error_stay() -> None:
    parser = parse(WIRE + b"rubbish\r\n\r\n")
    assert seen(parser) == EXPECTED
    assert parser.error is not None


@pytest.mark.parametrize("piece", [b"x" * 1000, b"x: y\r\n"])
def test_endless_heads_and_trailers_end(piece: bytes) -> None:
    for start in (
        b"GET / HTTP/1.1\r\nhost: h\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    ):
        parser = parse(start)
        fed = 0
        while parser.error is None:
            parser.feed(piece)
            fed += len(piece)
            assert fed < 1_000_000


def test_body_in_many_pieces_is_one_body_and_is_limited() -> None:
    head = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    parser = parse(head, *[b"1\r\nz\r\n"] * 1000, b"0\r\n\r\n")
    assert parser.requests[0].body == b"z" * 1000
    parser = parse(head, *[b"1\r\nz\r\n"] * 1001)
    assert parser.error is not None
    assert parser.error.status == 413


def test_chunk_extensions_do_not_flood() -> None:
    parser = parse(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1;")
    for _ in range(200):
        parser.feed(b"e" * 1000)
    assert parser.error is not None

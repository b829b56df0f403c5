"""The request parser on mixtures of good and bad requests, cut anywhere."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.web.limits import HttpLimits
from appliance.web.parser import RequestParser

FIELDS = [
    b"Host: h",
    b"host: h2",
    b"Content-Length: 5",
    b"content-length: 7",
    b"Content-Length: 99999",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: gzip",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Connection: close",
    b"Expect: 100-continue",
    b"X-A: 1",
    b"x-a: 2",
    b"x-long: " + b"y" * 300,
    b"no field",
]
BODIES = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nt: 1\r\n\r\n"]
LIMITS = HttpLimits(head_bytes=800, header_count=6)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    fields = [b"Host: h", *draw(st.lists(st.sampled_from(FIELDS), max_size=7))]
    head = b"\r\n".join([b"POST /a?x=1 " + version, *draw(st.permutations(fields))])
    return head + b"\r\n\r\n" + draw(st.sampled_from(BODIES))


def parse(wire: bytes, cuts: list[int]) -> RequestParser:
    parser = RequestParser("peer", LIMITS, 1000)
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    for start, stop in pairwise(edges):
        parser.feed(wire[start:stop])
    return parser


@given(st.lists(requests(), min_size=1, max_size=3), st.lists(st.integers(0, 5000), max_size=5))
def test_cuts_change_neither_requests_nor_whether_there_is_an_error(messages: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(messages)
    whole, cut = parse(wire, []), parse(wire, cuts)
    assert list(map(shown, cut.requests)) == list(map(shown, whole.requests))
    assert (cut.error is None) == (whole.error is None)


def shown(request: object) -> list[object]:
    names = ("method", "path", "raw_path", "query", "headers", "body", "http10", "keep_alive", "upgrade")
    return [getattr(request, name) for name in names]


@given(requests())
def test_what_passes_is_framed_in_one_way_and_knows_its_version(wire: bytes) -> None:
    parser = parse(wire, [])
    if not parser.requests:
        return
    request, fields = parser.requests[0], wire.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
    assert request.http10 == wire.startswith(b"POST /a?x=1 HTTP/1.0")
    assert sum(field.startswith(b"host:") for field in fields) == 1
    assert not {b"content-length", b"transfer-encoding"} <= request.headers.keys()
    assert b"transfer-encoding" not in request.headers or not request.http10
    assert len(request.headers) <= LIMITS.header_count
    for name, value in request.headers.items():
        assert value == b", ".join(
            f.partition(b": ")[2] for f in wire_fields(wire) if f.lower().startswith(name + b":")
        )


def wire_fields(wire: bytes) -> list[bytes]:
    return wire.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]


@given(st.integers(0, 400), st.lists(st.integers(0, 5000), max_size=5))
def test_heads_over_the_limit_are_refused_however_they_come(length: int, cuts: list[int]) -> None:
    fields = [b"Host: h", b"a: " + b"x" * length, b"b: " + b"x" * length]
    parser = parse(b"GET / HTTP/1.1\r\n" + b"\r\n".join(fields) + b"\r\n\r\n", cuts)
    counted = len(b"/") + sum(len(field) + 2 for field in fields)
    assert (parser.error is not None) == (counted > LIMITS.head_bytes)

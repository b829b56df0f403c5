"""Packed request bodies: every encoding, every cut, and bombs."""

import random
import tracemalloc
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.errors import BodyTooLarge, InvalidRequest
from appliance.web.errors import UnsupportedEncoding, render_error
from appliance.web.unpacking import PARTS_LIMIT, read_codings, unpack
from tests.helpers.packing import PACKERS, pack

TEXT = random.Random(1).randbytes(300_000) + b'{"a": 1}' * 50_000
LIMIT = 1_000_000
MB = 1_000_000


@pytest.mark.parametrize("coding", PACKERS)
def test_what_was_packed_comes_out(coding: str) -> None:
    assert unpack(pack(TEXT, coding), [coding], LIMIT) == TEXT
    assert unpack(pack(b"", coding), [coding], LIMIT) == b""
    assert unpack(pack(TEXT, coding), [coding], len(TEXT)) == TEXT


def test_encodings_on_top_of_each_other() -> None:
    assert unpack(pack(pack(TEXT, "gzip"), "zstd"), ["gzip", "zstd"], LIMIT) == TEXT


def test_deflate_without_its_header() -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert unpack(packer.compress(TEXT) + packer.flush(), ["deflate"], LIMIT) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_parts_are_one_body(coding: str) -> None:
    assert unpack(pack(TEXT[:7], coding) + pack(b"", coding) + pack(TEXT[7:], coding), [coding], LIMIT) == TEXT


@pytest.mark.parametrize("coding", PACKERS)
def test_one_byte_over_the_limit_is_too_large(coding: str) -> None:
    with pytest.raises(BodyTooLarge, match="unpacked"):
        unpack(pack(TEXT, coding), [coding], len(TEXT) - 1)


@pytest.mark.parametrize("coding", PACKERS)
def test_a_bomb_uses_little_memory(coding: str) -> None:
    bomb = pack(bytes(500 * MB), coding)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            unpack(bomb, [coding], 5 * MB)
        assert tracemalloc.get_traced_memory()[1] < 20 * MB
    finally:
        tracemalloc.stop()


def test_a_bomb_in_a_bomb_is_stopped_between_the_layers() -> None:
    with pytest.raises(BodyTooLarge):
        unpack(pack(pack(bytes(500 * MB), "zstd"), "gzip"), ["zstd", "gzip"], MB)


def test_a_zstd_window_beyond_what_http_allows_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidRequest):
        unpack(packer.compress(bytes(1000)) + packer.flush(), ["zstd"], LIMIT)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_endless_empty_parts_are_refused(coding: str) -> None:
    with pytest.raises(InvalidRequest, match="parts"):
        unpack(pack(b"", coding) * (PARTS_LIMIT + 1), [coding], LIMIT)


@pytest.mark.parametrize("coding", PACKERS)
def test_every_cut_is_noticed(coding: str) -> None:
    whole = pack(b"hello hello hello", coding)
    for cut in range(1, len(whole)):
        with pytest.raises(InvalidRequest, match=coding):
            unpack(whole[:cut], [coding], LIMIT)


@settings(max_examples=300, deadline=None)
@given(coding=st.sampled_from(sorted(PACKERS)), data=st.binary(max_size=200), flips=st.lists(st.integers(0, 1599)))
def test_broken_data_is_an_error_of_ours(coding: str, data: bytes, flips: list[int]) -> None:
    packed = bytearray(pack(data, coding))
    for flip in flips:
        packed[flip // 8 % len(packed)] ^= 1 << flip % 8
    with suppress(InvalidRequest, BodyTooLarge):
        assert len(unpack(bytes(packed), [coding], LIMIT)) <= LIMIT


def test_names_of_encodings() -> None:
    assert read_codings(b"GZip, identity ,zstd") == ["gzip", "zstd"]
    assert read_codings(b"identity") == read_codings(b"") == []
    for header in (b"br", b"gzip, br", b"gzip, gzip, gzip", b"\xff"):
        with pytest.raises(UnsupportedEncoding) as caught:
            read_codings(header)
        assert ("accept-encoding", "gzip, deflate, zstd") in render_error(caught.value, "/")[2]

"""Framing: no split of the bytes changes the frames, and no bytes do worse than end the link."""

from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import LinkBroken
from appliance.core.requests import TokenChunk
from appliance.wire.framing import (
    FrameDecoder,
    encode,
    to_child_decoder,
    to_frontend_decoder,
    to_supervisor_decoder,
    to_worker_decoder,
)
from appliance.wire.link_messages import Failed, Step

LIMIT = 2000
DECODERS = (to_worker_decoder(), to_frontend_decoder(), to_supervisor_decoder(), to_child_decoder())
chunks = st.builds(TokenChunk, st.integers(0, 2**63), st.lists(st.integers(0, 2**31)))
messages = st.one_of(
    st.builds(Step, st.lists(chunks, max_size=5)), st.builds(Failed, st.integers(0, 9), st.text(), st.text())
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@given(bodies=st.lists(st.binary(max_size=300), max_size=8), cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_any_split_gives_the_same_frames(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    decoder = FrameDecoder(LIMIT)
    frames = [bytes(frame) for piece in split(data, cuts) for frame in decoder.feed(piece)]
    assert frames == bodies
    assert not decoder.mid_frame


@given(sent=st.lists(messages, max_size=6), step=st.integers(1, 50))
def test_messages_survive_a_reader_that_reuses_its_buffer(sent: list[Step | Failed], step: int) -> None:
    data = b"".join(map(encode, sent))
    decoder, decode, received = FrameDecoder(1 << 20), to_frontend_decoder().decode, []
    for at in range(0, len(data), step):
        buffer = bytearray(data[at : at + step])
        received += [decode(frame) for frame in decoder.feed(memoryview(buffer))]
        buffer[:] = b"\xff" * len(buffer)
    assert received == sent


@given(body=st.binary(max_size=200), cut=st.integers(0, 203))
def test_unfinished_frame_is_known(body: bytes, cut: int) -> None:
    data = (len(body).to_bytes(4, "big") + body)[:cut]
    decoder = FrameDecoder(LIMIT)
    complete = cut >= len(body) + 4
    assert len(decoder.feed(data)) == complete
    assert decoder.mid_frame == (bool(data) and not complete)


@given(pieces=st.lists(st.binary(max_size=100), max_size=10))
def test_garbage_on_the_stream_only_breaks_the_link(pieces: list[bytes]) -> None:
    decoder = FrameDecoder(LIMIT)
    with suppress(LinkBroken):
        for piece in pieces:
            decoder.feed(piece)


@given(body=st.one_of(st.binary(max_size=100), messages.map(lambda message: encode(message)[4:])), data=st.data())
def test_garbage_in_a_frame_only_breaks_the_link(body: bytes, data: st.DataObject) -> None:
    mutant = bytearray(body)
    if mutant:
        at = data.draw(st.integers(0, len(mutant) - 1))
        mutant[at] = data.draw(st.integers(0, 255))
    for decoder in DECODERS:
        with suppress(LinkBroken):
            decoder.decode(mutant)

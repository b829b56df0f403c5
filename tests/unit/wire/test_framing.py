"""Framing: limits, wrong messages, and cost."""

import time

import pytest

from appliance.core.errors import LinkBroken
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import EngineRequest, Sampling, StopConditions
from appliance.wire.bus_messages import ChildHello
from appliance.wire.framing import FrameDecoder, encode, to_frontend_decoder, to_supervisor_decoder, to_worker_decoder
from appliance.wire.link_messages import Cancel, Ping, Request


def test_every_field_of_a_request_crosses_the_link() -> None:
    request = EngineRequest(
        id=RequestId("r"),
        model=ModelName("m"),
        messages=[{"role": "user", "content": [{"type": "text", "text": "hé"}]}],
        sampling=Sampling(temperature=0.5, logit_bias={7: -100.0}),
        stop=StopConditions(max_tokens=3, stop_token_ids=(1, 2)),
    )
    message = Request(9, request)
    assert to_worker_decoder().decode(encode(message)[4:]) == message


@pytest.mark.parametrize("before", [b"", b"\xff", b"\xff\xff\xff"])
def test_too_large_a_frame_is_refused_as_soon_as_its_size_is_known(before: bytes) -> None:
    decoder = FrameDecoder(10)
    decoder.feed(before)
    with pytest.raises(LinkBroken, match="limit is 10"):
        decoder.feed(b"\xff\xff\xff\xff"[len(before) :])


def test_frame_of_exactly_the_limit_passes() -> None:
    assert [bytes(frame) for frame in FrameDecoder(3).feed(b"\0\0\0\3abc")] == [b"abc"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        b"\x92\x63\x01",  # no such tag
        b"\x92\x07\xa1x",  # text where a number belongs
        b"\x92\x07\x01\x01",  # bytes behind the message
        b"\x92\x03",  # cut
        b"\x94\x05\x01\xa2\xff\xfe\xa1a",  # no UTF-8
        b"\x93\x07\x01" + b"\x91" * 100_000,  # deep
        b"\x92\x04\xdd\xff\xff\xff\xff",  # a list of 2^32 entries, it says
    ],
)
def test_wrong_bodies_break_the_link(body: bytes) -> None:
    for decoder in (to_worker_decoder(), to_frontend_decoder(), to_supervisor_decoder()):
        with pytest.raises(LinkBroken):
            decoder.decode(body)


def test_messages_of_the_other_direction_are_refused() -> None:
    with pytest.raises(LinkBroken):
        to_frontend_decoder().decode(encode(Cancel(1))[4:])
    with pytest.raises(LinkBroken):
        to_worker_decoder().decode(encode(ChildHello("worker", "w", 1))[4:])


def test_what_msgpack_cannot_hold_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        encode(object())


def test_large_frame_in_small_pieces_takes_linear_time() -> None:
    size, piece = 8 << 20, bytes(1024)
    decoder = FrameDecoder(size)
    began = time.process_time()
    decoder.feed(size.to_bytes(4, "big"))
    frames = [frame for _ in range(size // len(piece)) for frame in decoder.feed(piece)]
    assert [len(frame) for frame in frames] == [size]
    assert time.process_time() - began < 1.0  # copying the partial frame each time would take over 10 s


def test_added_fields_of_a_newer_peer_are_ignored() -> None:
    assert to_worker_decoder().decode(b"\x93\x07\x05\xa3new") == Ping(5)

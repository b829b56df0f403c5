"""The ZMQ messages around the payloads: publications, requests for a replay, and the replies. No sockets."""

from typing import NamedTuple

from appliance.core.errors import ApplianceError

NUMBER_BYTES = 8
END = b"\xff" * NUMBER_BYTES
"""In place of a sequence number: the replay is complete."""


class BadFrames(ApplianceError):
    """A message that is neither a publication nor part of a replay."""

    code, status, kind = "bad_frames", 400, "invalid_request_error"


class Numbered(NamedTuple):
    """A payload with its place in what one publisher has sent."""

    sequence: int
    payload: bytes


def read_publication(frames: list[bytes]) -> Numbered:
    """Topic, sequence number, payload. Raises `BadFrames`."""
    if len(frames) != 3:
        raise BadFrames(f"cannot read a publication of {len(frames)} frames")
    return Numbered(_number(frames[1]), frames[2])


def write_publication(topic: bytes, sequence: int, payload: bytes) -> list[bytes]:
    """The frames of a publication."""
    return [topic, sequence.to_bytes(NUMBER_BYTES, "big"), payload]


def read_request(frames: list[bytes]) -> tuple[list[bytes], int]:
    """The route back (identity, delimiter) and the first wanted number of a replay. Raises `BadFrames`."""
    if len(frames) != 3 or frames[1]:
        raise BadFrames(f"cannot read a request for a replay of {len(frames)} frames")
    return frames[:2], _number(frames[2])


def write_request(start: int) -> list[bytes]:
    """The frames of a DEALER's request."""
    return [b"", start.to_bytes(NUMBER_BYTES, "big")]


def read_reply(frames: list[bytes]) -> Numbered | None:
    """One replayed publication, or None for the end mark. With or without the topic. Raises `BadFrames`."""
    body = frames[1:] if frames and not frames[0] else frames
    if len(body) not in (2, 3):
        raise BadFrames(f"cannot read a reply of {len(frames)} frames")
    if body[-2] == END:
        return None
    return Numbered(_number(body[-2]), body[-1])


def write_reply(route: list[bytes], topic: bytes | None, entry: Numbered | None) -> list[bytes]:
    """The frames of a reply; without a topic in the form of older engines, without an entry the end mark."""
    head = [] if topic is None else [topic if entry else b""]
    if entry is None:
        return [*route, *head, END, b""]
    return [*route, *head, entry.sequence.to_bytes(NUMBER_BYTES, "big"), entry.payload]


def _number(frame: bytes) -> int:
    if len(frame) != NUMBER_BYTES:
        raise BadFrames(f"cannot read a sequence number of {len(frame)} bytes")
    return int.from_bytes(frame, "big")

"""Frames of the link and the bus: a 4-byte big-endian length, then one msgpack body. No I/O here.

Nothing that a peer sends may raise anything but `LinkBroken`.
"""

import struct
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from appliance.core.errors import LinkBroken
from appliance.wire.bus_messages import ToChild, ToSupervisor
from appliance.wire.link_messages import ToFrontend, ToWorker

Buffer = bytes | bytearray | memoryview
M = TypeVar("M")

HEADER_BYTES = 4
UNREADABLE = (ValueError, RecursionError, OverflowError, MemoryError)  # msgspec's errors are ValueErrors
_read_size = struct.Struct(">I").unpack_from
_encode_body = msgspec.msgpack.Encoder().encode


def encode(message: Any) -> bytes:
    """One message as a frame. Raises TypeError for what msgpack cannot hold."""
    body = _encode_body(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class MessageDecoder(Generic[M]):
    """Turns frame bodies into the messages of one union."""

    def __init__(self, union: Any) -> None:
        self.read: Callable[[Buffer], M] = msgspec.msgpack.Decoder(union).decode
        """The bare reader, for those who turn `UNREADABLE` into `broken_by` themselves."""

    def decode(self, frame: Buffer) -> M:
        """The message in a frame body. Raises `LinkBroken` for anything else."""
        try:
            return self.read(frame)
        except UNREADABLE as fault:
            raise broken_by(fault) from fault


def broken_by(fault: BaseException) -> LinkBroken:
    """What reading a frame body comes to when it raised one of `UNREADABLE`."""
    return LinkBroken(f"cannot read a frame: {_one_line(fault)}")


def to_worker_decoder() -> MessageDecoder[ToWorker]:
    """For a worker reading a link."""
    return MessageDecoder(ToWorker)


def to_frontend_decoder() -> MessageDecoder[ToFrontend]:
    """For a front end reading a link."""
    return MessageDecoder(ToFrontend)


def to_supervisor_decoder() -> MessageDecoder[ToSupervisor]:
    """For the supervisor reading the bus."""
    return MessageDecoder(ToSupervisor)


def to_child_decoder() -> MessageDecoder[ToChild]:
    """For a child reading the bus."""
    return MessageDecoder(ToChild)


class FrameDecoder:
    """Cuts a byte stream into frame bodies, however the bytes were split on their way.

    Whole frames come back as views of the data that was fed, without a copy; only a frame that was split over
    several reads is gathered in a buffer of its own. Memory is bounded by `max_frame_bytes`.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._partial = bytearray()
        self._missing = 0  # bytes until the partial header, then the partial frame, is complete

    @property
    def mid_frame(self) -> bool:
        """True while a frame has begun and not ended: the end of the stream here is a fault."""
        return bool(self._partial)

    def feed(self, data: Buffer) -> list[Buffer]:
        """The frames that `data` completes, valid as long as `data` is. Raises `LinkBroken` for too large a frame."""
        frames: list[Buffer] = []
        view = memoryview(data)
        at = self._fill_partial(view, frames) if self._partial else 0
        end, limit = len(view), self._max_frame_bytes
        while end - at >= HEADER_BYTES:
            (size,) = _read_size(view, at)
            if size > limit:
                self._refuse(size)
            start = at + HEADER_BYTES
            stop = start + size
            if stop > end:
                break
            frames.append(view[start:stop])
            at = stop
        if at < end:
            self._begin_partial(view[at:])
        return frames

    def _checked_size(self, view: Buffer) -> int:
        size: int = _read_size(view)[0]
        if size > self._max_frame_bytes:
            self._refuse(size)
        return size

    def _refuse(self, size: int) -> NoReturn:
        raise LinkBroken(f"cannot read a frame of {size} bytes: the limit is {self._max_frame_bytes}")

    def _begin_partial(self, rest: memoryview) -> None:
        self._partial = bytearray(rest)
        if len(rest) < HEADER_BYTES:
            self._missing = HEADER_BYTES - len(rest)
        else:
            self._missing = HEADER_BYTES + self._checked_size(rest) - len(rest)

    def _fill_partial(self, view: memoryview, frames: list[Buffer]) -> int:
        """Add to the partial frame what `view` has of it; how many bytes that took."""
        taken = 0
        in_header = len(self._partial) < HEADER_BYTES
        while True:
            piece = view[taken : taken + self._missing]
            self._partial += piece
            self._missing -= len(piece)
            taken += len(piece)
            if self._missing:
                return taken
            if in_header:
                in_header = False
                self._missing = self._checked_size(self._partial)
            else:
                frames.append(memoryview(self._partial)[HEADER_BYTES:])
                self._partial = bytearray()
                return taken


def _one_line(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:200] or type(fault).__name__

"""Which sockets of a SO_REUSEPORT group get new connections: a program for the kernel, in classic BPF.

Without one the kernel deals connections to every listening socket of the group, also to one whose process is starting,
dead or about to leave; and what waits at a socket when it is closed is reset.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence

SO_ATTACH_REUSEPORT_CBPF = 51
_LOAD_WORD, _MODULO, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x94, 0x15, 0x06
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM


def steer(sock: socket.socket, places: Sequence[int]) -> bool:
    """Deal new connections to the group of `sock` evenly to the members at these places, in the order they listened.

    A place that nobody has gets none: the kernel then deals as if there were no program. What waits at other members
    stays there. False when this kernel takes no such programs.
    """
    code = b"".join(struct.pack("HBBI", *line) for line in _program(places))
    buffer = ctypes.create_string_buffer(code, len(code))
    try:
        sock.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_REUSEPORT_CBPF,
            struct.pack("HL", len(code) // 8, ctypes.addressof(buffer)),
        )
    except OSError:
        return False
    return True


def _program(places: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """A random number modulo their count, and the place of that number."""
    lines = [(_LOAD_WORD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(places))]
    for number, place in enumerate(places[:-1]):
        lines += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, place)]
    return [*lines, (_RETURN, 0, 0, places[-1])]

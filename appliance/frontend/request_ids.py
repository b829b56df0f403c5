"""Ids that requests get."""

from binascii import hexlify
from random import getrandbits
from struct import Struct

from appliance.core.identity import RequestId

_VERSION, _VARIANT = 0xF << 76, 0x3 << 62
_FREE = (1 << 128) - 1 - _VERSION - _VARIANT
_MARKS = 0x4 << 76 | 0x2 << 62
"""Version 4, and the variant of RFC 9562."""
_groups = Struct("8s4s4s4s12s").unpack


def new_id() -> RequestId:
    """A fresh request id: a random UUID, without the system call that an unguessable one would cost.

    Unique among processes, forked ones too: each seeds its generator.
    """
    bits = getrandbits(128) & _FREE | _MARKS
    return b"-".join(_groups(hexlify(bits.to_bytes(16)))).decode()  # type: ignore[return-value]  # a call less

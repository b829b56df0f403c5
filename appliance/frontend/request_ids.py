"""Ids that requests get."""

import random

from appliance.core.identity import RequestId


def new_id() -> RequestId:
    """A fresh request id: a random UUID, without the system call that an unguessable one would cost."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return RequestId(f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}")

"""Whose process a pid of the driver is."""

import os

HOST_PID_NAMESPACE = "pid:[4026531836]"
"""The number that Linux gives to the first pid namespace."""


def session_of(pid: int) -> int | None:
    """The session of a process, by its leader's pid; None when it is gone, or when the driver counts differently.

    The driver tells pids of the host: in a container the same number is somebody else.
    """
    try:
        return os.getsid(pid) if os.readlink("/proc/self/ns/pid") == HOST_PID_NAMESPACE else None
    except OSError:
        return None

"""Ties a child's life to its parent's. Standard library only: a child calls it before it imports anything heavy."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent(expected_parent: int) -> None:
    """Have the kernel SIGKILL this process when its parent ends; called first thing, from the main thread.

    `expected_parent` is the pid that started us. A parent that died before this call is seen by its changed pid, and
    then this call ends the process. Raises OSError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != expected_parent:
        os.kill(os.getpid(), signal.SIGKILL)

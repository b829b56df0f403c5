"""One appliance per state dir: an exclusive lock on a file that holds the owner's process id."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.core.errors import StateUnavailable


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock file for the length of the block; the kernel frees it when the process dies, however it dies.

    Raises `StateUnavailable` at once when another process holds it (the message names its pid) or when the file
    cannot be made. Children started by exec do not inherit the lock.
    """
    descriptor = _open_file(path)
    try:
        _take(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)  # the file stays: removing it would race with the next owner's open
            # Closing is not enough: a child between fork and exec shares the open file, and the lock with it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _open_file(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnavailable(f"cannot use the state folder {path.parent}: {error.strerror}") from error


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        who = f"with pid {owner}" if owner else "which is just starting"
        raise StateUnavailable(
            f"cannot use the state folder {path.parent}: another appliance {who} is using it; "
            "stop that one or choose another --state-dir"
        ) from error
    except OSError as error:
        raise StateUnavailable(f"cannot lock the state folder {path.parent}: {error.strerror}") from error

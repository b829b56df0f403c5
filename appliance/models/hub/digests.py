"""Hashes of model files while they are read or written: SHA-256 of large ones, git's blob hash of small ones."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from appliance.models.hub.files import RepoFile

READ_BYTES = 4 << 20


class FileHash:
    """The hash that a hub gives for one file, computed piece by piece."""

    def __init__(self, file: RepoFile) -> None:
        self._expected = file.sha256 or file.git_sha1
        # git hashes a header before the content; it is no protection here, and SHA-1 is what the hub has
        self._hash = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self._hash.update(data)

    def add_file(self, path: Path, on_read: Callable[[int], None]) -> int:
        """Add all bytes of a file; their number. `on_read` is told of each piece. Raises `OSError`."""
        count = 0
        with path.open("rb") as source:
            while data := source.read(READ_BYTES):
                self._hash.update(data)
                count += len(data)
                on_read(len(data))
        return count

    def matches(self) -> bool:
        """Whether the bytes so far are the file; True where the hub gave no hash."""
        return self._expected is None or self._hash.hexdigest() == self._expected.lower()


def is_whole(path: Path, file: RepoFile, on_read: Callable[[int], None] = lambda _: None) -> bool:
    """Whether a file on the disk is what the hub listed, byte by byte. Raises `OSError` when it cannot be read."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    found = FileHash(file)
    found.add_file(path, on_read)
    return found.matches()

"""A file of lines that several processes append to, with rotation by size. Blocking: for a thread."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class RollingFile:
    """Appends whole lines to `path`; at `roll_bytes` it becomes `path.1`, older ones move up, the oldest goes."""

    def __init__(self, path: Path, *, roll_bytes: int = 0, kept: int = 4) -> None:
        """0 `roll_bytes`: the file grows for ever."""
        self._path, self._roll_bytes, self._kept = path, roll_bytes, kept
        self._fd: int | None = None

    def append(self, line: bytes) -> None:
        """Write a line, all of it or nothing. Raises `OSError`; the next call tries again."""
        try:
            fd = self._locked()
            size = os.fstat(fd).st_size
            if self._roll_bytes and size and size + len(line) > self._roll_bytes:
                self._roll()
                self.close()
                fd = self._locked()
                size = os.fstat(fd).st_size
            self._write(fd, size, line)
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError as error:
            self.close()
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self._path)) from None

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with suppress(OSError):
                os.close(fd)

    def _locked(self) -> int:
        """The file that is at `path` now, locked: another process may have rolled it, or a person removed it."""
        while True:
            if self._fd is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)  # what people say is for the owner only
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                    return self._fd
            self.close()

    def _write(self, fd: int, size: int, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, size)  # half a line would spoil the one that comes after it
            raise

    def _roll(self) -> None:
        if not self._kept:
            self._path.unlink()
            return
        for number in range(self._kept - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        os.replace(self._path, self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

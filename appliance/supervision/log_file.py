"""One log file with rotation by size. A disk that is full or read-only never stops the one who logs."""

import os
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 8_000_000
KEPT_FILES = 3


class LogFile:
    """Appends text to `path`; at `max_bytes` it becomes `path.1`, older ones move up and the oldest is dropped."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        self.path = path
        self.failure = ""
        """Why the last write was lost; empty while all is well."""
        self._max_bytes = max_bytes
        self._kept = kept
        self._fd: int | None = None
        self._size = 0

    def write(self, text: str) -> None:
        """Append; on an error the text is lost, `failure` says why, and the next write tries again."""
        data = text.encode("utf-8", "replace")
        try:
            if self._fd is not None and self._size + len(data) > self._max_bytes and self._size:
                self._rotate()
            if self._fd is None:
                self._open()
            if self._fd is not None:
                self._size += os.write(self._fd, data)
            self.failure = ""
        except OSError as error:
            self.close()
            self.failure = f"cannot write {self.path}: {error.strerror}"

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        os.replace(self.path, self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

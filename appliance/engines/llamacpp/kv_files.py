"""Files with the keys and values of one slot, on their way from a prefill to a decode worker of the same box.

The workers share a folder that nobody else may enter. A file belongs to who wrote it until another worker has read it,
which removes it; what nobody fetched is swept. Blocking calls: for threads.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from appliance.core.errors import EngineFailed

LEASE_S = 60.0
"""How long a file waits to be fetched; decode workers compute what they find no more."""
SWEEP_S = 20.0
"""Pause between two looks for files that nobody fetched."""
NAME = re.compile(r"kv-[0-9a-f]{32}\.bin")
SAMPLES = 16
SAMPLE_BYTES = 1 << 16


class KvFiles:
    """The folder as one worker sees it."""

    def __init__(self, folder: Path, model: str, clock: Callable[[], float] = time.time) -> None:
        """Make the folder when it is not there, and sweep it. Raises `EngineFailed` when it cannot be used.

        `model` is the fingerprint of what computes the keys and values; only equals understand each other.
        """
        self.folder, self.model = folder, model
        self._clock = clock
        self._own: set[str] = set()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)  # a folder that was there may be open to others
        except OSError as error:
            raise EngineFailed(f"cannot use the folder for KV caches {folder}: {error.strerror}") from None
        self.sweep()

    def new_name(self) -> str:
        """A name for the next file."""
        name = f"kv-{secrets.token_hex(16)}.bin"
        self._own.add(name)
        return name

    def has(self, name: object) -> bool:
        """Whether a name is one of ours and its file is there."""
        return isinstance(name, str) and NAME.fullmatch(name) is not None and (self.folder / name).is_file()

    def remove(self, name: object) -> None:
        """Remove a file; one that is gone, or a name that is none of ours, is no error."""
        if isinstance(name, str) and NAME.fullmatch(name):
            self._own.discard(name)
            with suppress(OSError):
                (self.folder / name).unlink()

    def sweep(self) -> None:
        """Remove what was not fetched in time, of any worker: its writer may be dead."""
        oldest = self._clock() - LEASE_S
        with suppress(OSError):
            for path in self.folder.iterdir():
                with suppress(OSError):
                    if NAME.fullmatch(path.name) and path.stat().st_mtime < oldest:
                        path.unlink()
        self._own = {name for name in self._own if (self.folder / name).exists()}

    def close(self) -> None:
        """Remove what this worker wrote, and the folder when it is empty then."""
        for name in tuple(self._own):
            self.remove(name)
        with suppress(OSError):
            self.folder.rmdir()


def fingerprint(path: Path, kv_cache_type: str) -> str:
    """What tells models apart whose keys and values do not fit each other, without reading all of the file.

    Size and evenly spaced samples of the file, and the type of the cache. Raises `EngineFailed`.
    """
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(f"{size} {kv_cache_type}".encode())
        with path.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(max(0, size - SAMPLE_BYTES) * number // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    except OSError as error:
        raise EngineFailed(f"cannot read the model file: {error.strerror}") from None
    return digest.hexdigest()

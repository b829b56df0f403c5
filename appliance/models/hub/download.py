"""Fetches one file of a repository: goes on where an earlier try ended, retries, verifies. Blocks.

Only a whole, verified file counts as fetched; a broken one is removed.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from appliance.core.errors import HubUnreachable, ModelUnavailable
from appliance.models.hub.digests import FileHash
from appliance.models.hub.files import RepoFile, Snapshot
from appliance.models.hub.remote import Hub

TRIES = 6  # in a row that bring no byte
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


@dataclass(frozen=True)
class Watch:
    """Who is told of a download. Any of these may raise, which ends the download; what has come stays for the next."""

    on_kept: Callable[[int], None]
    """Bytes of an earlier try that are used again."""
    on_bytes: Callable[[int], None]
    """Bytes that have just come; negative when some had to be thrown away."""
    pause: Callable[[float], None]
    """Sleep for seconds."""
    on_trouble: Callable[[str], None]
    """One line about a try that failed and will be repeated."""


def fetch_file(hub: Hub, snapshot: Snapshot, file: RepoFile, part: Path, watch: Watch) -> None:
    """Bring the file to `part`, verified. Bytes that lie there already are kept and hashed with the rest.

    Raises `ModelUnavailable` when the hub refuses it, its bytes are wrong or the disk is full, `HubUnreachable` when
    several tries in a row brought nothing.
    """
    resumed = part.exists() and part.stat().st_size > 0
    with _disk_errors(part):
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _complete(hub, snapshot, file, part, watch):
            return
        # An earlier process may have left wrong bytes: once more from the start.
        if resumed and _complete(hub, snapshot, file, part, watch):
            return
    raise ModelUnavailable(
        f"{file.path} of {snapshot.repo} came with other bytes than the hub lists (its hash differs); nothing was kept"
    )


def _complete(hub: Hub, snapshot: Snapshot, file: RepoFile, part: Path, watch: Watch) -> bool:
    """Fetch what is missing; False, with the file removed, when the result is not what was listed."""
    with part.open("ab+") as target:
        state = _Partial(target, file, watch)
        failures = 0
        while state.have < file.size:
            before = state.have
            try:
                _receive(hub, snapshot, file, state)
            except HubUnreachable as trouble:
                failures = 1 if state.have > before else failures + 1
                if failures >= TRIES:
                    raise
                wait = trouble.retry_after_s or min(FIRST_PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
                watch.on_trouble(f"{trouble.message}; trying again in {wait:g} s")
                watch.pause(wait)
        if state.have == file.size and state.hash.matches():
            target.flush()
            os.fsync(target.fileno())
            return True
        state.restart()
    part.unlink()
    return False


def _receive(hub: Hub, snapshot: Snapshot, file: RepoFile, state: "_Partial") -> None:
    asked = state.have
    with hub.stream(snapshot, file, asked) as stream:
        if stream.offset != asked:
            state.restart()
        for chunk in stream.chunks:
            if state.have + len(chunk) > file.size:
                state.restart()
                raise HubUnreachable(f"the hub sends more than the {file.size} bytes of {file.path}")
            state.write(chunk)
    if state.have < file.size:
        raise HubUnreachable(f"the connection ended after {state.have} of {file.size} bytes of {file.path}")


class _Partial:
    """A file that is being written, with the hash of what it holds."""

    def __init__(self, target: BinaryIO, file: RepoFile, watch: Watch) -> None:
        self._target, self._file, self._watch = target, file, watch
        self.hash = FileHash(file)
        self.have = 0
        size = os.fstat(target.fileno()).st_size
        if size > file.size:
            target.truncate(0)
        elif size:
            self.have = self.hash.add_file(Path(target.name), watch.on_kept)

    def write(self, data: bytes) -> None:
        self._target.write(data)
        self.hash.update(data)
        self.have += len(data)
        self._watch.on_bytes(len(data))

    def restart(self) -> None:
        """Throw away what is here."""
        self._target.truncate(0)
        self._watch.on_bytes(-self.have)
        self.hash, self.have = FileHash(self._file), 0


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or failing disk into `ModelUnavailable`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else error.strerror or str(error)
        raise ModelUnavailable(f"cannot write {path}: {what}") from None

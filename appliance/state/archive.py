"""The form of a backup: a tar archive, compressed with zstd, whose last member says what must be in it.

    appliance.db    a consistent copy of the database
    models/...      local models, when they were asked for
    manifest.json   format, versions, and size and SHA-256 of every file before it

Because the manifest comes last, an archive that was cut off has none.
"""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec
import zstandard

from appliance.core.errors import ApplianceError

FORMAT = 1
DATABASE = "appliance.db"
MODELS = "models"
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 64 << 20  # bytes; a real one has a line per file
BLOCK = 1 << 20


class BadBackup(ApplianceError):
    """A file that is no backup, is damaged, or was made by a newer version."""

    code, status = "bad_backup", 422


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """One member: a file with size in bytes and SHA-256 in hex, or a link with its target."""

    name: str
    size: int = 0
    sha256: str = ""
    link: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int
    version: str
    """Of the appliance that wrote it."""
    created_at: float
    """Unix time in seconds."""
    schema: list[str]
    """Migrations that the database has, in order."""
    files: list[Packed]


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to so many bytes; none at the end."""
        ...


class HashedReader:
    """Counts and hashes what is read through it."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """See `Readable`."""
        data = self._source.read(size)
        self._digest.update(data)
        self.size += len(data)
        return data

    @property
    def sha256(self) -> str:
        """Of everything read so far, in hex."""
        return self._digest.hexdigest()


@contextmanager
def open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """The members of a backup in order. Raises `BadBackup` for a file that is none or is cut off or damaged."""
    with path.open("rb") as file:
        try:
            with (
                zstandard.ZstdDecompressor().stream_reader(file) as plain,
                tarfile.open(fileobj=plain, mode="r|") as tar,
            ):
                yield tar
        except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
            raise BadBackup(
                f"cannot read {path}: it is no backup of an appliance, or it is damaged ({error})"
            ) from None


def safe_name(name: str) -> bool:
    """Whether a member may be unpacked: the database, or something below the models, and nothing outside."""
    parts = PurePosixPath(name).parts
    if name == DATABASE:
        return True
    return (
        len(parts) > 1
        and parts[0] == MODELS
        and ".." not in parts
        and "\0" not in name
        and str(PurePosixPath(name)) == name
    )


def safe_link(name: str, target: str) -> bool:
    """Whether a link of a member stays below the models."""
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = PurePosixPath(target).parts
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    # Upwards only at the beginning: behind another link it would mean another place.
    return ups <= len(PurePosixPath(name).parts) - 2 and ".." not in parts[ups:]


def remove_leftovers(state_dir: Path) -> None:
    """Remove what killed backups and restores have left. The caller holds the state dir's lock."""
    for pattern in (".backup-*", ".restore-*"):
        for room in state_dir.glob(pattern):
            shutil.rmtree(room, ignore_errors=True)

"""Makes a backup while the appliance runs: a consistent copy of the database, and the models when they are wanted.

Blocking; callers run it in a thread.
"""

import io
import os
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import msgspec
import zstandard

from appliance.core.errors import StateUnavailable
from appliance.state.archive import DATABASE, FORMAT, MANIFEST, MODELS, HashedReader, Manifest, Packed
from appliance.state.faults import mapped_faults
from appliance.state.schema import applied_migrations

LEVEL = 3  # models hardly shrink at any level
BUSY_S = 10.0
UNFINISHED = (".part", ".incomplete", ".lock", ".tmp")
"""Endings of files that are being written, or mean nothing elsewhere."""


class Sink(Protocol):
    """Where a backup goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""
        ...


def write_backup(state_dir: Path, sink: Sink, *, with_models: bool, version: str) -> Manifest:
    """Write the backup of a state dir, in use or not. Raises `StateUnavailable`, and what the sink raises."""
    database = state_dir / DATABASE
    if not database.is_file():
        raise StateUnavailable(f"cannot back up {state_dir}: it holds no {DATABASE}")
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    with TemporaryDirectory(prefix=".backup-", dir=state_dir) as room:
        copy = Path(room) / DATABASE
        schema = copy_database(database, copy)
        with (
            compressor.stream_writer(_Ours(sink), closefd=False) as packed,  # type: ignore[arg-type]  # it only writes
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            files = [_add_file(tar, copy, DATABASE)]
            if with_models:
                files += _add_models(tar, state_dir)
            manifest = Manifest(format=FORMAT, version=version, created_at=time.time(), schema=schema, files=files)
            _add_bytes(tar, MANIFEST, msgspec.json.encode(manifest))
    return manifest


def copy_database(database: Path, copy: Path) -> list[str]:
    """Copy through SQLite, so that writes meanwhile do no harm; returns the migrations that the copy has."""
    with mapped_faults(database, "copy"), closing(sqlite3.connect(copy)) as target:
        with closing(sqlite3.connect(f"file:{_quoted(database)}?mode=ro", uri=True, timeout=BUSY_S)) as source:
            source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, whole in itself
        copy.chmod(0o600)
        return applied_migrations(target)


def _add_models(tar: tarfile.TarFile, state_dir: Path) -> Iterator[Packed]:
    for folder, folders, names in os.walk(state_dir / MODELS):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            place = str(path.relative_to(state_dir))
            if path.is_symlink():
                yield _add_link(tar, place, os.readlink(path))
            elif path.is_file() and not name.endswith(UNFINISHED):
                with suppress(FileNotFoundError):  # removed since the folder was listed
                    yield _add_file(tar, path, place)


def _add_file(tar: tarfile.TarFile, path: Path, name: str) -> Packed:
    with path.open("rb") as source:
        info = tar.gettarinfo(arcname=name, fileobj=source)
        info.type, info.mode, info.uid, info.gid, info.uname, info.gname = tarfile.REGTYPE, 0o600, 0, 0, "", ""
        hashed = HashedReader(source)
        try:
            tar.addfile(info, hashed)
        except OSError as error:
            if error.errno is None:  # tarfile's own: the file is shorter than it was
                raise StateUnavailable(f"cannot back up {path}: it became shorter meanwhile; try again") from None
            raise
    return Packed(name=name, size=info.size, sha256=hashed.sha256)


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> Packed:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)
    return Packed(name=name, link=target)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
    tar.addfile(info, io.BytesIO(data))


class _Ours:
    """A sink as the compressor wants it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept here."""


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")

"""Puts a backup back: everything is unpacked beside the state, checked, and only then moved into its place.

Blocking. The caller holds the state dir's lock.
"""

import os
import shutil
import sqlite3
import tarfile
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

import msgspec

from appliance.core.errors import Conflict
from appliance.state.archive import (
    BLOCK,
    DATABASE,
    FORMAT,
    MANIFEST,
    MANIFEST_LIMIT,
    BadBackup,
    HashedReader,
    Manifest,
    Packed,
    Readable,
    open_archive,
    remove_leftovers,
    safe_link,
    safe_name,
)
from appliance.state.schema import unknown_migrations

BEFORE = ".before-restore"
LOCKS = "*.lock"
SIDE_FILES = ("-wal", "-shm", "-journal")


def check_backup(archive: Path) -> Manifest:
    """Read a whole backup and compare it with its manifest. Raises `BadBackup`, `OSError`."""
    return _read(archive, None)


def restore_backup(archive: Path, state_dir: Path, *, force: bool) -> Manifest:
    """Make the state what the backup says; models that are there and not in it stay.

    Raises `Conflict` when there is a state already; with `force` its database is kept as `appliance.db.before-restore`.
    Raises `BadBackup` for a backup that is damaged or of a newer version. After any error the database is what it was.
    """
    if not force and (state_dir / DATABASE).exists():
        raise Conflict(
            f"{state_dir} holds a state already; --force replaces it and keeps its database beside the new one"
        )
    remove_leftovers(state_dir)
    room = Path(mkdtemp(prefix=".restore-", dir=state_dir))
    try:
        manifest = _read(archive, room)
        _check_database(archive, room / DATABASE)
        _give_to_owner(state_dir, [*room.rglob("*"), *state_dir.glob(LOCKS)])
        _move_models(room, state_dir, manifest)
        _keep_old_database(state_dir)
        os.replace(room / DATABASE, state_dir / DATABASE)
        _flush(state_dir)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return manifest


def _read(archive: Path, room: Path | None) -> Manifest:
    """Go through all members, unpacking them when there is a room for them."""
    found: dict[str, Packed] = {}
    manifest: Manifest | None = None
    with open_archive(archive) as tar:
        for member in tar:
            if manifest is not None:
                raise BadBackup(f"cannot use {archive}: there is something behind its manifest")
            if member.name == MANIFEST:
                manifest = _decode(archive, tar, member)
            else:
                found[member.name] = _take(archive, tar, member, room)
    if manifest is None:
        raise BadBackup(f"cannot use {archive}: it is incomplete, its manifest is missing")
    wrong = sorted(
        name for name in found.keys() | _by_name(manifest) if found.get(name) != _by_name(manifest).get(name)
    )
    if wrong or DATABASE not in found:
        raise BadBackup(f"cannot use {archive}: {', '.join(wrong[:3]) or DATABASE} is missing or not what was packed")
    unknown = unknown_migrations(manifest.schema)
    if unknown:
        raise BadBackup(
            f"cannot use {archive}: it was made by version {manifest.version}, which is newer than this one "
            f"(it has {unknown[-1]}); restore it with that version"
        )
    return manifest


def _by_name(manifest: Manifest) -> dict[str, Packed]:
    return {one.name: one for one in manifest.files}


def _decode(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    source = tar.extractfile(member)
    if source is None or member.size > MANIFEST_LIMIT:
        raise BadBackup(f"cannot use {archive}: its manifest is no file")
    try:
        manifest = msgspec.json.decode(source.read(), type=Manifest)
    except msgspec.DecodeError:
        raise BadBackup(f"cannot use {archive}: its manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise BadBackup(f"cannot use {archive}: it has format {manifest.format}, and this version knows {FORMAT}")
    return manifest


def _take(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, room: Path | None) -> Packed:
    if not safe_name(member.name) or not (member.isreg() or member.issym()):
        raise BadBackup(f"cannot use {archive}: it holds {member.name!r}, which no backup of ours does")
    if member.issym():
        if not safe_link(member.name, member.linkname):
            raise BadBackup(f"cannot use {archive}: the link {member.name!r} leads out of the models")
        if room is not None:
            _place(room, member.name).symlink_to(member.linkname)
        return Packed(name=member.name, link=member.linkname)
    source = tar.extractfile(member)
    assert source is not None  # a regular file has content
    hashed = HashedReader(source)
    _copy(hashed, None if room is None else _place(room, member.name))
    return Packed(name=member.name, size=hashed.size, sha256=hashed.sha256)


def _place(room: Path, name: str) -> Path:
    """Where a member goes. The folders on the way are no links: what lies below a link would land elsewhere."""
    path = room / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.resolve() != room.resolve() / PurePosixPath(name).parent:
        raise BadBackup(f"cannot restore {name!r}: it lies below a link")
    return path


def _copy(source: Readable, target: Path | None) -> None:
    if target is None:
        while source.read(BLOCK):
            pass
        return
    with target.open("xb") as file:
        while block := source.read(BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    target.chmod(0o600)


def _check_database(archive: Path, database: Path) -> None:
    try:
        with closing(sqlite3.connect(database)) as connection:
            whole = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.Error:
        whole = False
    if not whole:
        raise BadBackup(f"cannot use {archive}: the database in it is damaged")


def _give_to_owner(state_dir: Path, paths: list[Path]) -> None:
    """What root restores for a service belongs to the service."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        for path in paths:
            os.lchown(path, owner.st_uid, owner.st_gid)


def _move_models(room: Path, state_dir: Path, manifest: Manifest) -> None:
    for one in manifest.files:
        if one.name != DATABASE:
            target = state_dir / one.name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(room / one.name, target)  # the models may lie on another disk


def _keep_old_database(state_dir: Path) -> None:
    """Set the old database aside with everything that belongs to it, so that the new one is never mixed with it."""
    old = state_dir / DATABASE
    if not old.exists():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # brings everything into the one file; a damaged one stays
    for ending in ("", *SIDE_FILES):
        kept = state_dir / f"{DATABASE}{BEFORE}{ending}"
        kept.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            os.replace(state_dir / f"{DATABASE}{ending}", kept)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

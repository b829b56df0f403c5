"""Checks of what is stored: settings, state dir, database, disk."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from appliance.roles.doctor.finding import Finding, Scene, fail, in_gb, ok, warn

NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre")
FLEETING = ("tmpfs", "ramfs")
NEEDED = 1e8
WANTED = 20e9


def check_settings(scene: Scene) -> Iterator[Finding]:
    """File, environment and what they come to."""
    if scene.settings is None:
        yield fail(scene.settings_error, "correct it; `dynamo-appliance config explain` lists what there is")
        return
    for warning in scene.warnings:
        yield warn(warning, "remove or correct it")
    yield ok("settings can be read")


def check_state_dir(scene: Scene) -> Iterator[Finding]:
    """The folder can be written by the one who asks, or will be made."""
    folder = scene.paths.state_dir
    existing = _nearest(folder)
    if not os.access(existing, os.W_OK | os.X_OK) or _read_only(existing):
        cure = "become its owner, or choose another place with --state-dir"
        yield fail(f"{folder} cannot be written", cure)
    elif not folder.exists():
        yield ok(f"{folder} will be made by the first start")
    else:
        mode = folder.stat().st_mode & 0o777
        open_to_others = mode & 0o077
        if open_to_others:
            yield warn(f"{folder} is open to others (mode {mode:o})", f"it holds hashes of keys: chmod 700 {folder}")
        else:
            yield ok(f"{folder} can be written")
    kind = file_system(existing, scene.root)
    if kind in NETWORKED:
        cure = "locks and flushes of a database need a local disk; choose another --state-dir"
        yield warn(f"it lies on a network file system ({kind})", cure)
    elif kind in FLEETING:
        yield warn(f"it lies in memory ({kind})", "it is lost at the next boot; choose another --state-dir")
    else:
        yield ok(f"its file system is {kind or 'not known'}")


def check_database(scene: Scene) -> Iterator[Finding]:
    """There, not empty, and with the copies that upgrades have left."""
    database = scene.paths.database
    try:
        size = database.stat().st_size
    except FileNotFoundError:
        yield ok("none yet; the first start makes it")
        return
    except OSError as error:
        yield fail(f"{database} cannot be looked at: {error.strerror}", "become its owner")
        return
    if not os.access(database, os.R_OK | os.W_OK):
        yield fail(f"{database} cannot be read and written", "become its owner, or give it back: chown")
        return
    with database.open("rb") as file:
        head = file.read(16)
    if size and head != b"SQLite format 3\0":
        yield fail(f"{database} is no database", "put back a backup: dynamo-appliance restore FILE --force")
        return
    copies = sorted(path.name for path in database.parent.glob(f"{database.name}.*copy"))
    yield ok(f"{size} bytes" + (f"; copies from before upgrades: {', '.join(copies)}" if copies else ""))


def check_disk(scene: Scene) -> Iterator[Finding]:
    """Room for the database, and for models."""
    existing = _nearest(scene.paths.state_dir)
    usage = shutil.disk_usage(existing)
    text = f"{in_gb(usage.free)} of {in_gb(usage.total)} free"
    if usage.free < NEEDED:
        yield fail(text, "nothing can be stored; free some space: `dynamo-appliance models rm`, old logs and backups")
    elif usage.free < WANTED:
        yield warn(text, "enough to run, too little for large models")
    else:
        yield ok(text)


def file_system(folder: Path, root: Path = Path("/")) -> str:
    """The kind of file system that a folder lies on; empty when the kernel does not tell."""
    best, kind = "", ""
    try:
        lines = (root / "proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    place = str(folder.resolve())
    for line in lines:
        words = line.split(" ")
        mount = words[1].replace("\\040", " ").rstrip("/")
        if (place == mount or place.startswith(mount + "/")) and len(mount) >= len(best):
            best, kind = mount, words[2]
    return kind


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    for candidate in (folder, *folder.parents):
        try:
            if candidate.exists():
                return candidate
        except PermissionError:
            continue
    return Path("/")


def _read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)

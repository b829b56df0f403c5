"""The managed environments on disk: `<state>/engines/<engine>-<version>/`, each with a note of what it is."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NOTE = "environment.json"
LOCK = ".in-use"
PARTIAL = ".partial"
INSTALLABLE = ("vllm", "sglang")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One complete environment."""

    engine: str
    version: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def name(self) -> str:
        return self.folder.name


def list_environments(engines_dir: Path) -> list[Environment]:
    """The complete environments, the newest version of each engine first. Blocks on the disk."""
    if not engines_dir.is_dir():
        return []
    found = [_read(folder) for folder in engines_dir.iterdir() if folder.is_dir() and folder.suffix != PARTIAL]
    known = [one for one in found if one is not None]
    known.sort(key=lambda one: version_key(one.version), reverse=True)
    return sorted(known, key=lambda one: one.engine)


def newest_environment(engines_dir: Path, engine: str) -> Environment | None:
    """The one that is used when nothing else is said."""
    return next((one for one in list_environments(engines_dir) if one.engine == engine), None)


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions as people read them: numbers by value, `1.0rc1` before `1.0`, and that before `1.0.post1`."""
    parts = re.findall(r"\d+|[a-z]+", version.lower().partition("+")[0])
    key = [(1, int(part), "") if part.isdigit() else (1, -1, "") if part == "post" else (-1, 0, part) for part in parts]
    return (*key, (0, 0, ""))


def size_bytes(folder: Path) -> int:
    """What a folder takes on the disk. Blocks while it is walked."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                status = os.lstat(os.path.join(place, name))
            except FileNotFoundError:
                continue
            total += status.st_blocks * 512
    return total


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep an environment from being removed while the block runs, until the process ends at the latest."""
    try:
        file = (folder / LOCK).open("rb")
    except OSError:  # not ours to read, so its owner does not ask us either
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_in_use(folder: Path) -> bool:
    """Whether some process is within `in_use`."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write_note(folder: Path, engine: str, version: str) -> None:
    """Mark an environment as complete."""
    (folder / LOCK).touch()
    (folder / NOTE).write_text(json.dumps({"engine": engine, "version": version}) + "\n")


def _read(folder: Path) -> Environment | None:
    try:
        note = json.loads((folder / NOTE).read_text())
        return Environment(engine=note["engine"], version=note["version"], folder=folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None

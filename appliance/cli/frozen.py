"""Life in the one-file executable, where a bootloader process unpacks us into a folder and waits for our end.

SIGKILL of the bootloader would leave us running, and SIGKILL of either leaves the folder behind. So we die with the
bootloader, every folder says who lives in it, and a start removes the folders whose inhabitants are dead.
"""

import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.supervision.guard import read_process
from appliance.supervision.parent_death import die_with_parent

FOLDER_PREFIX = "_MEI"  # how PyInstaller names what it unpacks
MARK = ".dynamo-appliance"


def unpack_folder() -> Path | None:
    """Where the one-file executable was unpacked for this process; None in every other form."""
    folder = Path(getattr(sys, "_MEIPASS", ""))
    return folder if folder.name.startswith(FOLDER_PREFIX) else None


def settle_in() -> None:
    """First thing in every process: if a bootloader has just unpacked us, die with it and mark the folder as ours.

    A marked folder means that our parent is no bootloader but one of us, whose folder we share.
    """
    folder = unpack_folder()
    if folder is None or (folder / MARK).exists():
        return
    bootloader = os.getppid()
    if not _runs_our_file(bootloader):  # it was killed already, and another process has adopted us
        os.kill(os.getpid(), signal.SIGKILL)
    die_with_parent(bootloader)
    mark_folder(folder, (bootloader, os.getpid()))


def mark_folder(folder: Path, pids: tuple[int, ...]) -> None:
    """Write down who lives in an unpack folder: pid namespace, pids and start times."""
    starts = {str(pid): process.start for pid in pids if (process := read_process(pid)) is not None}
    (folder / MARK).write_text(json.dumps({"namespace": _pid_namespace(), "starts": starts}))


def sweep(base: Path) -> list[Path]:
    """Remove this user's marked unpack folders below `base` whose inhabitants are all dead; what was removed.

    A folder without a mark is left alone: it may belong to another program, or be unpacked right now.
    """
    removed = []
    for folder in _own_folders(base):
        if not _inhabited(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def sweep_leftovers() -> None:
    """Remove what killed runs have left beside our own unpack folder; nothing outside the one-file executable."""
    folder = unpack_folder()
    if folder is not None:
        sweep(folder.parent)


def _own_folders(base: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(base))
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(FOLDER_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            mark = os.lstat(os.path.join(entry.path, MARK))
        except OSError:
            continue
        if stat.S_ISREG(mark.st_mode) and mark.st_uid == os.getuid() == entry.stat(follow_symlinks=False).st_uid:
            yield Path(entry.path)


def _inhabited(folder: Path) -> bool:
    try:
        mark = json.loads((folder / MARK).read_text())
        if mark["namespace"] != _pid_namespace():
            return True  # pids of another container mean nothing here
        return any(_lives(int(pid), start) for pid, start in mark["starts"].items())
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return True  # being written just now, or not by us


def _lives(pid: int, start: int) -> bool:
    process = read_process(pid)
    return process is not None and process.start == start and not process.zombie


def _runs_our_file(pid: int) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:
        return False


def _pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid")

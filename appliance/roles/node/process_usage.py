"""Memory and processor time of our processes, each with all that it has started. Reads /proc once; blocks."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the command's closing bracket.
SESSION, USER_TIME, SYSTEM_TIME, RESIDENT = 3, 11, 12, 21


@dataclass(frozen=True)
class Usage:
    """What a session of processes uses. CPU seconds never fall back while all of them live."""

    memory_bytes: int = 0
    cpu_s: float = 0.0


def read_usage(sessions: Collection[int], proc: Path = Path("/proc")) -> dict[int, Usage]:
    """Usage by session id, which is the pid of a process that leads its session; those that are gone are left out."""
    found: dict[int, Usage] = {}
    try:
        names = os.listdir(proc)
    except OSError:
        return found
    for name in names:
        if name.isdigit():
            session, usage = _read(proc / name / "stat")
            if session in sessions:
                before = found.get(session, Usage())
                found[session] = Usage(before.memory_bytes + usage.memory_bytes, before.cpu_s + usage.cpu_s)
    return found


def _read(stat: Path) -> tuple[int, Usage]:
    try:
        fields = stat.read_bytes().rpartition(b")")[2].split()
        ticks = int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])
        return int(fields[SESSION]), Usage(int(fields[RESIDENT]) * PAGE, ticks / TICKS)
    except (OSError, IndexError, ValueError):  # it has just ended
        return -1, Usage()

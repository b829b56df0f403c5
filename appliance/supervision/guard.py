"""The guard process: kills every recorded process group when the supervisor is gone, however it went.

Standard library only and nothing else of ours: it must start fast and stay small. It reads lines on stdin, which is
the lease: `lease TOKEN`, `add PID START MARK`, `end PID`. End of file means that the supervisor has died or is done.

What belongs to a worker is found in three ways, because a process can leave each of them but hardly all: the group and
session that the worker leads; the descendants seen by a look at /proc every few seconds; the mark in its environment,
which a process keeps over setsid and over its parent's death. Numbers are compared with start times, so that a reused
pid is never hit. A process that left the session, cleared its environment and lost its parent within one look escapes.
"""

import os
import select
import signal
import sys
import time
from typing import NamedTuple

LEASE_VARIABLE = "_APPLIANCE_LEASE"
LOOK_EVERY_S = 5.0  # one look costs a few milliseconds
ROUNDS = 40
ROUND_S = 0.05  # a process may fork between the look and the kill, so looks repeat until nothing is found


class Process(NamedTuple):
    """One line of /proc/PID/stat: numbers of the process, its parent, group and session, and its start in ticks."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    zombie: bool


def read_process(pid: int) -> Process | None:
    """What /proc says of a process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before may hold spaces and brackets
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), fields[0] in (b"Z", b"X"))


def read_processes() -> dict[int, Process]:
    """All living processes but ourselves."""
    own = os.getpid()
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    found = (read_process(pid) for pid in pids if pid not in (1, own))
    return {process.pid: process for process in found if process is not None and not process.zombie}


def read_mark(pid: int) -> str:
    """The mark that a process was started with; empty when it has none or is not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return ""
    prefix = LEASE_VARIABLE.encode() + b"="
    return next((entry[len(prefix) :].decode("ascii", "replace") for entry in entries if entry.startswith(prefix)), "")


class Ward:
    """One recorded worker: the leader of a group, and the descendants seen so far with their start times."""

    def __init__(self, leader: int, start: int, mark: str) -> None:
        self.leader = leader
        self.start = start
        self.mark = mark
        self.kin: dict[int, int] = {}

    def claims(self, process: Process, leader: Process | None) -> bool:
        """True for a process that is known to be this worker's own, without a look at its environment."""
        if self.kin.get(process.pid) == process.start:
            return True
        if leader is not None and leader.start != self.start:
            return False  # the number was given away, which the kernel does only when group and session are empty
        return self.leader in (process.group, process.session)


class Guard:
    """The recorded workers and what is to be killed."""

    def __init__(self) -> None:
        self.wards: dict[int, Ward] = {}
        self.token = ""

    def obey(self, line: str) -> None:
        """Take one line of the supervisor; a broken one is ignored, since the guard must outlive every mistake."""
        match line.split():
            case ["lease", token]:
                self.token = token
            case ["add", pid, start, mark] if pid.isdecimal() and start.isdecimal():
                self.wards[int(pid)] = Ward(int(pid), int(start), mark)
            case ["end", pid] if pid.isdecimal() and int(pid) in self.wards:
                ward = self.wards.pop(int(pid))
                kill(find([ward], {ward.mark}))

    def look(self) -> None:
        """Note the descendants of every worker while they can still be traced to it."""
        processes = read_processes()
        for ward in self.wards.values():
            found = descend(processes, {p.pid for p in claimed(ward, processes)})
            ward.kin = {pid: processes[pid].start for pid in found}

    def sweep(self) -> None:
        """Kill everything of every worker, until nothing is found any more."""
        for _ in range(ROUNDS):
            victims = find(list(self.wards.values()), set(), self.token)
            if not victims:
                return
            kill(victims)
            time.sleep(ROUND_S)


def claimed(ward: Ward, processes: dict[int, Process]) -> list[Process]:
    """The processes that belong to a worker by number."""
    leader = processes.get(ward.leader)
    return [process for process in processes.values() if ward.claims(process, leader)]


def find(wards: list[Ward], marks: set[str], token: str = "") -> set[int]:
    """Pids that belong to the workers: by number, by mark, by the lease's token, or by descent from such."""
    processes = read_processes()
    roots = {process.pid for ward in wards for process in claimed(ward, processes)}
    for pid in processes.keys() - roots:
        mark = read_mark(pid)
        if mark and (mark in marks or (token and mark.startswith(f"{token}."))):
            roots.add(pid)
    return descend(processes, roots)


def descend(processes: dict[int, Process], roots: set[int]) -> set[int]:
    """The roots and all their descendants."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found = set(roots)
    open_ends = list(roots)
    while open_ends:
        fresh = [pid for pid in children.get(open_ends.pop(), ()) if pid not in found]
        found.update(fresh)
        open_ends.extend(fresh)
    return found


def kill(pids: set[int]) -> None:
    """SIGKILL each; those that are gone or not ours are left out."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def main() -> None:
    """Serve the lease on stdin until its end, then kill what is recorded. Ignores the signals that end others."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard = Guard()
    lease = sys.stdin.fileno()
    rest = b""
    while True:
        # Without a worker there is nothing to look at, and the wait ends with the supervisor.
        readable, _, _ = select.select([lease], [], [], LOOK_EVERY_S if guard.wards else None)
        if not readable:
            guard.look()
            continue
        data = os.read(lease, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            guard.obey(line.decode("ascii", "replace"))
    guard.sweep()

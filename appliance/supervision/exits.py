"""Why a process ended, in words of our own. Its own output is read for hints but never quoted: users see the reason."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

TAIL_LINES = 60
"""How many of the last lines are searched for a hint."""
WRONG_USAGE = 2  # what our own executable, like most, ends with when it does not understand its arguments


@dataclass(frozen=True)
class ExitReason:
    """A short code for machines and one clause for people, such as "it ran out of memory"."""

    code: str
    text: str
    final: bool = False
    """Starting again will not help."""


@dataclass(frozen=True)
class _Hint:
    pattern: re.Pattern[str]
    reason: ExitReason


def _hint(pattern: str, code: str, text: str) -> _Hint:
    return _Hint(re.compile(pattern, re.IGNORECASE), ExitReason(code, text))


# In order of weight: running out of memory causes most of the later complaints, and a missing file is often harmless.
HINTS = (
    _hint(
        r"cuda out of memory|cudaMalloc failed|cudaErrorMemoryAllocation|OutOfMemoryError|ErrorOutOfDeviceMemory",
        "out_of_memory",
        "it ran out of GPU memory",
    ),
    _hint(
        r"\bMemoryError\b|std::bad_alloc|cannot allocate memory|failed to allocate (?:buffer|memory)",
        "out_of_memory",
        "it ran out of memory",
    ),
    _hint(r"address already in use|\bEADDRINUSE\b", "port_taken", "its port or socket is already in use"),
    _hint(
        r"invalid (?:gguf )?magic|failed to load model|error loading model|unknown model architecture|bad_model",
        "bad_model",
        "its model file cannot be loaded",
    ),
    _hint(r"no space left on device", "disk_full", "the disk is full"),
    _hint(r"\bModuleNotFoundError\b|\bImportError\b", "broken_install", "a module of its installation is missing"),
    _hint(
        r"error while loading shared libraries|cannot open shared object file",
        "broken_install",
        "a library of its installation is missing",
    ),
    _hint(r"\bFileNotFoundError\b|no such file or directory", "missing_file", "a file that it needs is missing"),
    _hint(r"\bPermissionError\b|permission denied", "no_permission", "it lacks a permission that it needs"),
)


def explain_exit(
    returncode: int, tail: Sequence[str], *, said: ExitReason | None = None, oom_kills: int = 0
) -> ExitReason:
    """The likeliest reason of an exit that nobody asked for.

    `returncode`: exit code, or minus the signal. `said`: what the child told us itself, which wins. `tail`: its last
    lines. `oom_kills`: how often the kernel ran out of memory here while the process lived.
    """
    if said is not None:
        return said
    if returncode == -signal.SIGKILL and oom_kills > 0:
        return ExitReason("out_of_memory", "the kernel killed it because memory ran out")
    if returncode != 0 and (hint := _find_hint(tail[-TAIL_LINES:])) is not None:
        return hint
    if returncode < 0:
        return ExitReason("signal", f"it was ended by {signal_name(-returncode)}")
    if returncode == 0:
        return ExitReason("exit", "it ended by itself without an error")
    if returncode == WRONG_USAGE:
        return ExitReason("usage", "its arguments are wrong; its log says which", final=True)
    if returncode > 128 and (name := _known_signal(returncode - 128)):
        return ExitReason("exit", f"it ended with exit code {returncode} (its child was ended by {name})")
    return ExitReason("exit", f"it ended with exit code {returncode}")


def signal_name(number: int) -> str:
    """`SIGSEGV (segmentation fault)`, or the bare number of a signal without a name."""
    name = _known_signal(number)
    if not name:
        return f"signal {number}"
    words = signal.strsignal(number)
    return f"{name} ({words.lower()})" if words else name


def _known_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _find_hint(lines: Sequence[str]) -> ExitReason | None:
    return next((hint.reason for hint in HINTS if any(hint.pattern.search(line) for line in lines)), None)


@dataclass(frozen=True)
class OomCounter:
    """Counts the kernel's out-of-memory kills, in our control group where it tells, else on the whole machine."""

    proc: Path = field(default=Path("/proc"))
    groups: Path = field(default=Path("/sys/fs/cgroup"))

    def read(self) -> int:
        """The count so far; 0 where nothing is to be read. Only a rise between two reads says anything."""
        for path in (*self._group_files(), self.proc / "vmstat"):
            count = _read_oom_kill(path)
            if count is not None:
                return count
        return 0

    def _group_files(self) -> list[Path]:
        try:
            lines = (self.proc / "self" / "cgroup").read_text().splitlines()
        except OSError:
            return []
        found = []
        for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
            if number == "0" and not controllers:
                found.append(self.groups / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                found.append(self.groups / "memory" / path.lstrip("/") / "memory.oom_control")
        return found


def _read_oom_kill(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)

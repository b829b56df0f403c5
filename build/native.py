"""Compiles the native code in place, with the compiler and flags of the Python that runs this.

Does nothing when what is there is newer than its sources. Without a compiler or Python's headers it says so in one line
and ends well: the appliance then uses the twins in Python, which are slower.
"""

import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTENSIONS = {
    "appliance/preprocess/native": "word_table",
    "appliance/routing/native": "block_tree",
    "appliance/telemetry/native": "buckets",
}
"""Folders with C sources, and the module that each of them makes there."""
COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")
HEADERS = Path(sysconfig.get_path("include"))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
"""What our sources give no cause for. A compiler that knows more of them must not stop anybody: only a test minds."""


def main() -> None:
    """Compile what is out of date. Ends with 1 when the sources do not compile."""
    targets = [ROOT / folder / (name + sysconfig.get_config_var("EXT_SUFFIX")) for folder, name in EXTENSIONS.items()]
    stale = [target for target in targets if not is_current(target)]
    if stale and (missing := find_missing()):
        print(f"note: {missing} is missing; native code is not built, and Python does its work")
        return
    for target in stale:
        compile_module(target)


def is_current(target: Path) -> bool:
    """Whether a module is there and newer than all that it is made from."""
    sources = [Path(__file__), *target.parent.glob("*.[ch]")]
    return target.exists() and target.stat().st_mtime > max(file.stat().st_mtime for file in sources)


def find_missing() -> str | None:
    """What compiling needs and is not there."""
    if shutil.which(COMPILER[0]) is None:
        return COMPILER[0]
    return None if (HEADERS / "Python.h").exists() else str(HEADERS / "Python.h")


def compile_module(target: Path) -> None:
    """Compile the sources beside a module."""
    fresh = target.with_name(f"{target.name}.new")
    sources = sorted(str(file) for file in target.parent.glob("*.c"))
    argv = [*COMPILER, "-std=c11", "-O2", "-g0", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden", *WARNINGS]
    done = subprocess.run([*argv, "-isystem", str(HEADERS), *sources, "-o", str(fresh)])
    if done.returncode:
        sys.exit(f"error: cannot compile {target.parent.relative_to(ROOT)}")
    fresh.replace(target)  # at once and whole: a process may have the old one open


if __name__ == "__main__":
    main()

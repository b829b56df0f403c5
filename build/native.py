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
EXTENSIONS = {"appliance/routing/native": "block_tree"}
"""Folders with C sources, and the module that each of them makes there."""
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
"""What our sources give no cause for. A compiler that knows more of them must not stop anybody: only a test minds."""


def main() -> None:
    """Compile what is out of date. Ends with 1 when the sources do not compile."""
    for folder, name in EXTENSIONS.items():
        target = ROOT / folder / (name + sysconfig.get_config_var("EXT_SUFFIX"))
        if not is_current(target):
            compile_module(target)


def is_current(target: Path) -> bool:
    """Whether a module is there and newer than all that it is made from."""
    sources = [Path(__file__), *target.parent.glob("*.[ch]")]
    return target.exists() and target.stat().st_mtime > max(file.stat().st_mtime for file in sources)


def compile_module(target: Path) -> None:
    """Compile the sources beside a module."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    headers = Path(sysconfig.get_path("include"))
    for needed in (shutil.which(compiler[0]), headers / "Python.h"):
        if needed is None or not Path(needed).exists():
            missing = compiler[0] if needed is None else needed
            print(f"note: {missing} is missing; {target.parent.name} code is not built, and Python does its work")
            return
    fresh = target.with_name(f"{target.name}.new")
    sources = sorted(str(file) for file in target.parent.glob("*.c"))
    argv = [*compiler, "-std=c11", "-O2", "-g0", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden", *WARNINGS]
    done = subprocess.run([*argv, "-isystem", str(headers), *sources, "-o", str(fresh)])
    if done.returncode:
        sys.exit(f"error: cannot compile {target.parent.relative_to(ROOT)}")
    fresh.replace(target)  # at once and whole: a process may have the old one open


if __name__ == "__main__":
    main()

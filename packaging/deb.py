"""The Debian package, made with dpkg-deb alone: `python packaging/deb.py --executable PATH --output FOLDER`.

PATH is the one-file executable, or the folder of a one-folder build, which needs no unpacking at each start.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from payload import NAME, ROOT, VERSION, payload, source_date, write

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SCRIPTS = ("postinst", "prerm", "postrm")


def main() -> None:
    """Build the package and print its path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executable", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "out/release")
    given = parser.parse_args()
    if not given.executable.exists():
        sys.exit(f"error: {given.executable} does not exist; build it with: make binary")
    print(build_deb(given.executable.resolve(), given.output))


def build_deb(executable: Path, output: Path) -> Path:
    """The package of an executable, in the output folder."""
    output.mkdir(parents=True, exist_ok=True)
    package = output / f"{NAME}_{debian_version(VERSION)}_{architecture()}.deb"
    with tempfile.TemporaryDirectory() as room:
        root = Path(room) / "root"
        root.mkdir(mode=0o755)
        write(payload(), root)
        place_executable(executable, root)
        write_control(root)
        environ = os.environ | {"SOURCE_DATE_EPOCH": str(source_date())}
        # The executable is compressed already: a better method costs a minute and saves nothing.
        command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(package)]
        subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
    return package


def place_executable(executable: Path, root: Path) -> None:
    """One file goes to /usr/bin; a folder to /usr/lib, with a link to its executable."""
    target = root / "usr/bin" / NAME
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if executable.is_dir():
        library = root / "usr/lib" / NAME
        shutil.copytree(executable, library, symlinks=True)
        target.symlink_to(f"../lib/{NAME}/{NAME}")
    else:
        shutil.copyfile(executable, target)
        target.chmod(0o755)


def write_control(root: Path) -> None:
    """The DEBIAN folder: facts, configuration files that upgrades leave alone, scripts."""
    folder = root / "DEBIAN"
    folder.mkdir(mode=0o755)
    files = [path for path in root.rglob("*") if path.is_file() and folder not in path.parents]
    configuration = sorted(path for path in files if path.is_relative_to(root / "etc"))
    (folder / "conffiles").write_text("".join(f"/{path.relative_to(root)}\n" for path in configuration))
    size_kb = sum(path.lstat().st_size for path in files) // 1024 + 1
    (folder / "control").write_text(control(size_kb))
    for name in SCRIPTS:
        shutil.copyfile(ROOT / "packaging/debian" / name, folder / name)
        (folder / name).chmod(0o755)


def control(size_kb: int) -> str:
    """The package's facts."""
    libc = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.35"
    return f"""\
Package: {NAME}
Version: {debian_version(VERSION)}
Architecture: {architecture()}
Maintainer: Dynamo appliance maintainers <maintainers@localhost>
Installed-Size: {size_kb}
Depends: libc6 (>= {libc.split()[-1]})
Recommends: systemd
Suggests: criu
Section: net
Priority: optional
Description: turns this machine into an LLM serving platform
 One executable with an OpenAI-compatible server, supervised workers, a router,
 and a declarative control plane that speaks the manifests of NVIDIA Dynamo's
 Kubernetes operator. The service is installed and not started.
"""


def debian_version(version: str) -> str:
    """A Python version in Debian's order: pre-releases sort before their release."""
    for mark in ("a", "b", "rc", ".dev"):
        version = version.replace(mark, f"~{mark.lstrip('.')}", 1) if mark in version else version
    return version


def architecture() -> str:
    """Debian's name of this machine's processors."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


if __name__ == "__main__":
    main()

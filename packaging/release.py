"""What is offered for download, in one folder with its checksums: `python packaging/release.py --executable PATH`.

The single file, the Debian package, a tarball with the service files, the install script, SHA256SUMS.
"""

import argparse
import hashlib
import platform
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from deb import build_deb, place_executable
from payload import NAME, ROOT, VERSION, payload, source_date, write

BLOCK = 1 << 20


def main() -> None:
    """Fill the folder anew and print what lies in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executable", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "out/release")
    given = parser.parse_args()
    if not given.executable.is_file():
        sys.exit(f"error: {given.executable} is no file; build it with: make binary")
    shutil.rmtree(given.output, ignore_errors=True)
    given.output.mkdir(parents=True)
    fill(given.executable.resolve(), given.output)
    for file in sorted(given.output.iterdir()):
        print(file)


def fill(executable: Path, output: Path) -> None:
    """All files of a release."""
    single = output / f"{NAME}-linux-{platform.machine()}"
    shutil.copyfile(executable, single)
    single.chmod(0o755)
    shutil.copy(ROOT / "packaging/install.sh", output / "install.sh")
    build_deb(executable, output)
    build_tarball(executable, output / f"{NAME}-{VERSION}-linux-{platform.machine()}.tar.gz")
    sums = [f"{checksum(file)}  {file.name}\n" for file in sorted(output.iterdir())]
    (output / "SHA256SUMS").write_text("".join(sums))


def build_tarball(executable: Path, target: Path) -> None:
    """The installed tree below one folder, for machines without dpkg: unpack it with `--strip-components=1 -C /`."""
    with tempfile.TemporaryDirectory() as room:
        root = Path(room)
        write(payload(), root)
        place_executable(executable, root)
        with tarfile.open(target, "w:gz", compresslevel=1) as tar:
            for path in sorted(root.rglob("*")):
                tar.add(path, f"{NAME}-{VERSION}/{path.relative_to(root)}", recursive=False, filter=_same_everywhere)


def checksum(file: Path) -> str:
    """SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _same_everywhere(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = source_date()
    return entry


if __name__ == "__main__":
    main()

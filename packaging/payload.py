"""What an installed appliance consists of besides the executable: where each file goes, and how it is made."""

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from man import man_page

from appliance import __version__ as VERSION

ROOT = Path(__file__).parent.parent
NAME = "dynamo-appliance"
COMPLETIONS = {
    "bash": f"usr/share/bash-completion/completions/{NAME}",
    "zsh": f"usr/share/zsh/vendor-completions/_{NAME}",
    "fish": f"usr/share/fish/vendor_completions.d/{NAME}.fish",
}
COPIES = {
    "systemd/dynamo-appliance.service": f"usr/lib/systemd/system/{NAME}.service",
    "systemd/dynamo-appliance-snapshots.service": f"usr/lib/systemd/system/{NAME}-snapshots.service",
    "systemd/dynamo-appliance.sysusers": f"usr/lib/sysusers.d/{NAME}.conf",
    "systemd/dynamo-appliance.tmpfiles": f"usr/lib/tmpfiles.d/{NAME}.conf",
    "systemd/dynamo-appliance.env": f"etc/default/{NAME}",
    "systemd/appliance.toml": f"etc/{NAME}/appliance.toml",
    "README.md": f"usr/share/doc/{NAME}/README.md",
    "packaging/dashboards/grafana.json": f"usr/share/doc/{NAME}/dashboards/grafana.json",
    "packaging/dashboards/prometheus.yml": f"usr/share/doc/{NAME}/dashboards/prometheus.yml",
    "LICENSE": f"usr/share/doc/{NAME}/copyright",
}


@dataclass(frozen=True)
class Installed:
    """One file of the package: its place below the root, its content and its mode."""

    place: str
    content: bytes
    mode: int = 0o644


def payload() -> Iterator[Installed]:
    """All files but the executable."""
    for source, place in COPIES.items():
        yield Installed(place, (ROOT / source).read_bytes())
    yield Installed(f"usr/share/man/man1/{NAME}.1.gz", _zipped(man_page()))
    for shell, place in COMPLETIONS.items():
        yield Installed(place, completion(shell).encode())
    news = sorted((ROOT / "packaging/news").glob("*.*.md"))
    text = f"{NAME} {VERSION}\n\n" + "\n".join(f"- {' '.join(file.read_text().split())}" for file in news) + "\n"
    yield Installed(f"usr/share/doc/{NAME}/changelog.gz", _zipped(text))


def completion(shell: str) -> str:
    """The completion script of a shell."""
    command = [sys.executable, "-m", "appliance", "completion", shell]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def write(files: Iterator[Installed], root: Path) -> None:
    """Put files below a root folder."""
    os.umask(0o022)  # folders must be open to all, whoever builds
    for file in files:
        target = root / file.place
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)


def source_date() -> int:
    """Unix time of the commit, so that two builds of it are the same bytes; 0 outside a clone."""
    git = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    return int(git.stdout or 0)


def _zipped(text: str) -> bytes:
    return gzip.compress(text.encode(), 9, mtime=0)

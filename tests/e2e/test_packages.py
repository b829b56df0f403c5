"""The packages of the real executable: what they install runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the executable under test."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs the program dpkg-deb")
    folder = tmp_path_factory.mktemp("release") / "out"
    script = ROOT / "packaging/release.py"
    subprocess.run([sys.executable, script, "--executable", str(binary), "--output", str(folder)], check=True)
    return folder


def version_of(executable: Path, room: Path) -> str:
    """What it says, without any environment."""
    done = subprocess.run(
        [executable, "version"], env={"TMPDIR": str(room)}, capture_output=True, text=True, timeout=60
    )
    return done.stdout.splitlines()[0].split(" (")[0] if done.returncode == 0 else done.stderr


@pytest.mark.binary
def test_the_debian_package_runs(release: Path, tmp_path: Path) -> None:
    package = next(release.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(tmp_path / "root")], check=True)
    executable = tmp_path / "root/usr/bin/dynamo-appliance"
    assert version_of(executable, tmp_path) == f"dynamo-appliance {__version__}"


@pytest.mark.binary
def test_the_install_script_installs_what_runs(release: Path, tmp_path: Path) -> None:
    command = ["sh", str(release / "install.sh"), "--to", str(tmp_path / "bin")]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert version_of(tmp_path / "bin/dynamo-appliance", tmp_path) == f"dynamo-appliance {__version__}"

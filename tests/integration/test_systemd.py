"""The units: systemd accepts them, and they give away as little as they can."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parent.parent.parent / "systemd"
MOST_EXPOSED = {"dynamo-appliance.service": 30, "dynamo-appliance-snapshots.service": 65}
"""Tenths of the points that `systemd-analyze security` gives at most."""


@pytest.fixture(params=sorted(MOST_EXPOSED))
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose programs exist, which is what `verify` also looks at."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs the program systemd-analyze (package systemd)")
    text = (UNITS / request.param).read_text()
    for program in ("/usr/bin/dynamo-appliance", "/usr/lib/dynamo-appliance/snapshot-helper"):
        text = text.replace(f"ExecStart={program}", "ExecStart=/bin/true")
    path = tmp_path / str(request.param)
    path.write_text(text)
    return path


def analyze(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_units_are_valid(unit: Path) -> None:
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bad_unit_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("UMask=0077", "UMask=0077\nNoSuchThing=1"))
    assert "NoSuchThing" in analyze("verify", "--man=no", unit).stderr


def test_exposure(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED[unit.name]}", unit)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def settings(name: str) -> dict[str, str]:
    lines = (UNITS / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_what_the_appliance_relies_on() -> None:
    found = settings("dynamo-appliance.service")
    assert (found["Type"], found["NotifyAccess"], found["KillMode"]) == ("notify", "all", "mixed")
    assert int(found["TimeoutStopSec"]) > 30 + 2 * 5 + 15  # drain, twice the time after SIGTERM, last resort
    assert found["User"] == found["Group"] == "dynamo-appliance"
    assert "DynamicUser" not in found
    for kind in ("State", "Runtime", "Cache", "Logs"):
        assert found[f"{kind}Directory"] == "dynamo-appliance"


def test_the_snapshot_helper_cannot_be_enabled() -> None:
    assert "[Install]\n" not in (UNITS / "dynamo-appliance-snapshots.service").read_text().replace("no [Install]", "")


def test_users_and_folders(tmp_path: Path) -> None:
    for tool, name, options in (
        ("systemd-sysusers", "sysusers", ["--dry-run"]),
        ("systemd-tmpfiles", "tmpfiles", ["--create"]),
    ):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the program {tool} (package systemd)")
        (tmp_path / "etc").mkdir(exist_ok=True)
        (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\ndynamo-appliance:x:1:1::/:/bin/sh\n")
        (tmp_path / "etc/group").write_text("root:x:0:\ndynamo-appliance:x:1:\n")
        command = [tool, f"--root={tmp_path}", *options, str(UNITS / f"dynamo-appliance.{name}")]
        if name == "tmpfiles":
            command.insert(-1, "--prefix=/var")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "Unknown" not in done.stderr, done.stderr
        assert "Failed to parse" not in done.stderr, done.stderr

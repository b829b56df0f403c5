"""The one-file executable: what its bootloader and unpack folder add to the life of the appliance."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.appliance_process import Appliance, appliance, eventually

pytestmark = pytest.mark.binary


def unpacked(one: Appliance) -> list[Path]:
    return sorted(Path(one.env["TMPDIR"]).glob("_MEI*"))


@pytest.mark.parametrize("victim", [0, 1], ids=["bootloader", "python"])
def test_the_folder_of_a_killed_run_is_removed_by_the_next_start(
    binary: str | None, tmp_path: Path, victim: int
) -> None:
    one = Appliance(binary, tmp_path / "state")
    one.start("--engine", "mocker", "m")
    family, folders = one.family(), unpacked(one)
    assert len(folders) == 1, "children share the folder of the supervisor"
    family[victim].send_signal(signal.SIGKILL)
    eventually(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), timeout=5)
    one.stop()
    with appliance(binary, tmp_path / "state") as again:
        left = set(unpacked(again))
        assert len(left) == 1
        if victim == 0:  # a living bootloader cleans up by itself
            assert left.isdisjoint(folders)
    assert unpacked(again) == []


def test_a_start_leaves_the_folder_of_a_living_appliance_alone(binary: str | None, tmp_path: Path) -> None:
    with (
        appliance(binary, tmp_path / "one", "--engine", "mocker", "m") as one,
        appliance(binary, tmp_path / "two", "--engine", "mocker", "m"),
    ):
        assert len(unpacked(one)) == 2
        assert one.chat("m", "x", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_version_knows_the_commit_without_a_clone(binary: str | None, tmp_path: Path) -> None:
    assert binary is not None
    done = subprocess.run(
        [binary, "version", "--json"], env={"TMPDIR": str(tmp_path)}, cwd=tmp_path, capture_output=True, timeout=30
    )
    facts = json.loads(done.stdout)
    assert len(facts["commit"]) == 12
    assert facts["engines"]["llamacpp"]

"""Unpack folders of the one-file executable: which are swept, and which are left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli.frozen import MARK, mark_folder, sweep


def unpacked(base: Path, name: str = "_MEIabc123") -> Path:
    folder = base / name
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "x.so").write_bytes(b"x")
    return folder


def dead_pid() -> tuple[int, int]:
    """Pid and start time of a process that was, and is no more."""
    from appliance.supervision.guard import read_process

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = read_process(process.pid)
    assert found is not None
    process.communicate(b"\n", timeout=30)
    return process.pid, found.start


def write_mark(folder: Path, starts: dict[int, int]) -> None:
    mark = {"namespace": os.readlink("/proc/self/ns/pid"), "starts": {str(pid): start for pid, start in starts.items()}}
    (folder / MARK).write_text(json.dumps(mark))


def test_a_folder_whose_inhabitants_are_dead_is_removed(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    write_mark(folder, dict([dead_pid()]))
    assert sweep(tmp_path) == [folder]
    assert not folder.exists()


def test_a_folder_with_one_living_inhabitant_stays(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    mark_folder(folder, (os.getpid(), os.getppid()))
    mark = json.loads((folder / MARK).read_text())
    mark["starts"] |= dict([dead_pid()])
    (folder / MARK).write_text(json.dumps(mark))
    assert sweep(tmp_path) == []
    assert (folder / "lib" / "x.so").exists()


def test_a_pid_that_now_belongs_to_another_process_is_no_inhabitant(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    write_mark(folder, {os.getpid(): 1})
    assert sweep(tmp_path) == [folder]


def test_pids_of_another_container_mean_nothing_here(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    (folder / MARK).write_text(json.dumps({"namespace": "pid:[1]", "starts": dict([dead_pid()])}))
    assert sweep(tmp_path) == []


@pytest.mark.parametrize("mark", [None, "", "[]", '{"starts": 1}', "\x00"])
def test_folders_without_a_readable_mark_are_left_alone(tmp_path: Path, mark: str | None) -> None:
    folder = unpacked(tmp_path)
    if mark is not None:
        (folder / MARK).write_text(mark)
    assert sweep(tmp_path) == []
    assert folder.exists()


def test_other_names_and_links_are_left_alone(tmp_path: Path) -> None:
    other = unpacked(tmp_path, "data")
    write_mark(other, {})
    (tmp_path / "_MEIlink").symlink_to(other)
    assert sweep(tmp_path) == []
    assert other.exists()


def test_a_place_that_cannot_be_read_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing") == []

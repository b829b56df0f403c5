"""The folder of KV caches on their way: what is removed when, and by whom."""

import os
from pathlib import Path

import pytest

from appliance.core.errors import EngineFailed
from appliance.engines.llamacpp.kv_files import LEASE_S, KvFiles, fingerprint


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


def write(files: KvFiles, at: float) -> Path:
    path = files.folder / files.new_name()
    path.write_bytes(b"x")
    os.utime(path, (at, at))
    return path


def test_what_nobody_fetches_is_swept_by_any_worker(tmp_path: Path) -> None:
    clock = Clock()
    one, other = KvFiles(tmp_path / "kv", "m", clock), KvFiles(tmp_path / "kv", "m", clock)
    old, fresh = write(one, clock.now), write(one, clock.now + LEASE_S)
    stranger = tmp_path / "kv" / "notes.txt"
    stranger.write_text("x")
    os.utime(stranger, (0, 0))
    clock.now += LEASE_S + 1
    other.sweep()
    assert not old.exists()
    assert fresh.exists()
    assert stranger.exists(), "only what has our names is ours"


def test_start_sweeps_what_a_dead_worker_left(tmp_path: Path) -> None:
    clock = Clock()
    left = write(KvFiles(tmp_path / "kv", "m", clock), clock.now - LEASE_S - 1)
    KvFiles(tmp_path / "kv", "m", clock)
    assert not left.exists()


def test_close_removes_own_files_only(tmp_path: Path) -> None:
    one, other = KvFiles(tmp_path / "kv", "m"), KvFiles(tmp_path / "kv", "m")
    own, others = write(one, 1e10), write(other, 1e10)
    one.close()
    assert not own.exists()
    assert others.exists()
    other.close()
    assert not (tmp_path / "kv").exists()
    other.close()


@pytest.mark.parametrize("name", ["../x", "kv-.bin", "kv-" + "0" * 32, None, 5, "/etc/passwd"])
def test_foreign_names_are_neither_found_nor_removed(tmp_path: Path, name: object) -> None:
    (tmp_path / "x").write_text("x")
    files = KvFiles(tmp_path / "kv", "m")
    assert not files.has(name)
    files.remove(name)
    assert (tmp_path / "x").exists()


def test_folder_that_others_may_enter_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "kv").mkdir(mode=0o755)
    files = KvFiles(tmp_path / "kv", "m")
    assert files.folder.stat().st_mode & 0o777 == 0o700


def test_folder_that_cannot_be_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file")
    with pytest.raises(EngineFailed, match="cannot use the folder"):
        KvFiles(tmp_path / "kv", "m")


def test_fingerprints_tell_models_and_caches_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(3 << 20))
    other.write_bytes(bytes((3 << 20) - 1) + b"1")
    prints = {fingerprint(one, "f16"), fingerprint(other, "f16"), fingerprint(one, "q8_0")}
    assert len(prints) == 3
    assert fingerprint(one, "f16") in prints
    with pytest.raises(EngineFailed):
        fingerprint(tmp_path / "none", "f16")

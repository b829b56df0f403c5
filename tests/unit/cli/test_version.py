"""The commit of a clone, read from its files."""

from pathlib import Path

from appliance.cli.version import read_commit, version_facts

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def clone(folder: Path, head: str) -> Path:
    (folder / ".git" / "refs" / "heads").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text(head + "\n")
    return folder


def test_a_branch_with_its_own_file(tmp_path: Path) -> None:
    (clone(tmp_path, "ref: refs/heads/main") / ".git/refs/heads/main").write_text(COMMIT + "\n")
    assert read_commit(tmp_path) == COMMIT[:12]


def test_a_packed_branch(tmp_path: Path) -> None:
    packed = f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n"
    (clone(tmp_path, "ref: refs/heads/main") / ".git/packed-refs").write_text(packed)
    assert read_commit(tmp_path) == COMMIT[:12]


def test_a_detached_head(tmp_path: Path) -> None:
    assert read_commit(clone(tmp_path, COMMIT)) == COMMIT[:12]


def test_no_clone_and_an_empty_one(tmp_path: Path) -> None:
    assert read_commit(tmp_path) is None
    assert read_commit(clone(tmp_path, "ref: refs/heads/main")) is None


def test_engines_are_named_with_their_versions() -> None:
    engines = version_facts()["engines"]
    assert engines["llamacpp"] not in ("", "missing")
    assert engines["mocker"] == ""

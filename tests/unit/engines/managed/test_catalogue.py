"""Which managed environments there are, and which one is the newest."""

import random
from pathlib import Path

import pytest

from appliance.core.errors import Conflict, UsageError
from appliance.engines.managed.catalogue import (
    in_use,
    is_in_use,
    list_environments,
    newest_environment,
    version_key,
    write_note,
)
from appliance.engines.managed.install import parse_spec, remove_environment


def make(engines: Path, engine: str, version: str) -> Path:
    folder = engines / f"{engine}-{version}"
    folder.mkdir(parents=True)
    write_note(folder, engine, version)
    return folder


def test_versions_sort_as_people_read_them() -> None:
    order = ["0.9.2", "0.10.0rc1", "0.10.0rc2", "0.10.0", "0.10.0.post1", "0.33.0", "1.0.0.dev3", "1.0.0"]
    shuffled = order[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=version_key) == order


def test_only_complete_environments_are_listed(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.33.0", "0.10.1"):
        make(tmp_path, "vllm", version)
    (tmp_path / "vllm-newest.partial").mkdir()
    (tmp_path / "unknown").mkdir()
    assert [one.name for one in list_environments(tmp_path)] == ["vllm-0.33.0", "vllm-0.10.1", "vllm-0.9.0"]
    newest = newest_environment(tmp_path, "vllm")
    assert newest is not None
    assert newest.python == tmp_path / "vllm-0.33.0" / "bin" / "python"
    assert newest_environment(tmp_path, "sglang") is None
    assert list_environments(tmp_path / "none") == []


def test_an_environment_in_use_is_not_removed(tmp_path: Path) -> None:
    folder = make(tmp_path, "vllm", "1.0")
    with in_use(folder):
        assert is_in_use(folder)
        with pytest.raises(Conflict, match=r"vllm-1\.0 is in use"):
            remove_environment(tmp_path, "vllm-1.0")
    assert not is_in_use(folder)
    assert remove_environment(tmp_path, "vllm") > 0
    assert list(tmp_path.iterdir()) == []


def test_names_that_fit_none_or_several_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "vllm", "1.0")
    make(tmp_path, "vllm", "2.0")
    for name in ("vllm", "sglang", "..", "vllm-3.0", "../x.partial"):
        with pytest.raises(UsageError, match=r"vllm-2\.0, vllm-1\.0"):
            remove_environment(tmp_path, name)


@pytest.mark.parametrize(("text", "found"), [("vllm", ("vllm", None)), ("sglang==0.5.2", ("sglang", "0.5.2"))])
def test_a_specification_is_read(text: str, found: tuple[str, str | None]) -> None:
    assert parse_spec(text) == found


@pytest.mark.parametrize("text", ["", "torch", "vllm>=1", "vllm==", "vllm==../x", "vllm==1 --pre", "--help"])
def test_what_is_no_engine_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot install"):
        parse_spec(text)

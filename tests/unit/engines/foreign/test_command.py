"""Which command starts a foreign server."""

from pathlib import Path

import pytest

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.foreign.command import find_command, held_environment
from appliance.engines.foreign.options import read_options
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.managed.catalogue import is_in_use, write_note

MODULE, PROGRAM = ("-m", "vllm.server"), ("vllm", "serve")


def find(around: Surroundings, **args: str) -> tuple[str, ...]:
    given = read_options("vllm", EngineOptions(served_name="m", args=args))
    return find_command("vllm", given, around, module=MODULE, program=PROGRAM)


def make_environment(engines: Path, version: str) -> str:
    folder = engines / f"vllm-{version}"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    write_note(folder, "vllm", version)
    return str(python)


def test_what_the_user_names_comes_first(tmp_path: Path) -> None:
    engines = tmp_path / "engines"
    old, _ = make_environment(engines, "0.9"), make_environment(engines, "0.10")
    around = Surroundings(engines_dir=engines)
    assert find(around, command="my server --x 'a b'") == ("my", "server", "--x", "a b")
    assert find(around, python=old) == (old, *MODULE)
    assert find(around, venv=str(engines / "vllm-0.9")) == (old, *MODULE)
    assert find(around, venv="vllm-0.9") == (old, *MODULE)


def test_else_the_newest_managed_environment_then_the_search_path(tmp_path: Path) -> None:
    engines, path = tmp_path / "engines", tmp_path / "bin"
    path.mkdir()
    (path / "vllm").write_text("#!/bin/sh\n")
    (path / "vllm").chmod(0o755)
    around = Surroundings(engines_dir=engines, env={"PATH": str(path)})
    assert find(around) == (str(path / "vllm"), "serve")
    make_environment(engines, "0.9")
    newest = make_environment(engines, "0.10")
    assert find(around) == (newest, *MODULE)


def test_a_managed_environment_is_held_while_it_is_used(tmp_path: Path) -> None:
    python = make_environment(tmp_path, "0.9")
    with held_environment(python):
        assert is_in_use(tmp_path / "vllm-0.9")
    assert not is_in_use(tmp_path / "vllm-0.9")
    with held_environment("/usr/bin/python3"):
        pass


@pytest.mark.parametrize("args", [{"python": "/no/such/python"}, {"venv": "/no/such/venv"}])
def test_a_python_that_is_not_there_is_named(args: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"there is no Python at /no/such"):
        find(Surroundings(), **args)

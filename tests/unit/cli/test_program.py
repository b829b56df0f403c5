"""What a command line ends with: exit codes, one line of error, nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def call(*args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *args],
        cwd=ROOT,
        env={"HOME": "/nowhere", "PYTHONPATH": str(ROOT), **environ},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (("bogus",), 2, "error: No such command 'bogus'. (see dynamo-appliance --help)"),
        (("get",), 2, "error: Missing argument 'KIND'. (see dynamo-appliance get --help)"),
        (("status",), 3, "error: no appliance is running here; start one with: dynamo-appliance serve"),
        (("get", "dgdd"), 1, "error: no kind is called 'dgdd'"),
        (("config", "explain", "http.prt"), 2, "error: unknown setting 'http.prt' (config explain), did you mean"),
        (
            ("config", "check", "/nowhere/a.toml"),
            2,
            "error: cannot read the settings file /nowhere/a.toml: No such file",
        ),
        (("apply", "-f", "/nowhere/g.yaml"), 1, "error: /nowhere/g.yaml: No such file or directory"),
        (("models", "show", "/nowhere/m.gguf"), 1, "error: model /nowhere/m.gguf does not exist"),
    ],
)
def test_a_failure_is_one_line_and_a_code(tmp_path: Path, args: tuple[str, ...], code: int, error: str) -> None:
    done = call(*args, XDG_STATE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1


def test_a_broken_manifest_names_its_line_and_no_appliance_is_needed() -> None:
    done = call("apply", "-f", "-", stdin="a: 1\nb: [\n")
    assert done.returncode == 1
    assert "line 3" in done.stderr


def test_debug_shows_where(tmp_path: Path) -> None:
    done = call("--debug", "status", XDG_STATE_HOME=str(tmp_path))
    assert "Traceback" in done.stderr


def test_a_reader_that_has_enough_is_no_failure() -> None:
    command = f"set -o pipefail; {sys.executable} -m appliance config explain --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_without_arguments_the_verbs_are_listed() -> None:
    done = call()
    assert done.returncode == 0
    assert "serve" in done.stdout
    assert "guard" not in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(shell: str) -> None:
    assert "dynamo-appliance" in call("completion", shell).stdout


def test_completion_offers_verbs_and_flags() -> None:
    offered = call(_DYNAMO_APPLIANCE_COMPLETE="bash_complete", COMP_WORDS="dynamo-appliance st", COMP_CWORD="1")
    assert offered.stdout.split() == ["plain,stop", "plain,status"]
    values = call(
        _DYNAMO_APPLIANCE_COMPLETE="bash_complete", COMP_WORDS="dynamo-appliance serve --router-mode r", COMP_CWORD="3"
    )
    assert values.stdout.split() == ["plain,round-robin", "plain,random"]


def test_config_show_tells_value_and_source(tmp_path: Path) -> None:
    done = call("config", "show", XDG_CONFIG_HOME=str(tmp_path), DYN_HTTP_PORT="9")
    assert done.stdout.splitlines()[1].split() == ["http.port", "9", "environment", "DYN_HTTP_PORT"]

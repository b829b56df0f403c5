"""`engine install`, `list` and `remove` with tiny packages from a folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from appliance.engines.managed.catalogue import in_use

ROOT = Path(__file__).parent.parent.parent.parent
UV = f"""#!{sys.executable}
import subprocess, sys, zipfile
from pathlib import Path
words = sys.argv[1:]
if words[0] == "venv":
    sys.exit(subprocess.call([sys.executable, "-m", "venv", "--without-pip", words[-1]]))
folder = Path(words[words.index("--python") + 1]).parent.parent
name, _, version = words[-1].partition("==")
print("Resolved 1 package", flush=True)
links = Path(words[words.index("--find-links") + 1])
wheels = sorted(links.glob(f"{{name}}-{{version or '*'}}-*.whl"))
if not wheels:
    print(f"error: because there is no version of {{name}}=={{version}}")
    sys.exit(1)
(site,) = folder.glob("lib/python*/site-packages")
zipfile.ZipFile(wheels[-1]).extractall(site)
"""
"""A stand-in for uv that knows enough of it; it spares the seconds that pip takes to make an environment."""


def make_wheel(folder: Path, name: str, version: str, code: str = "") -> None:
    """A package of one module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


class Cli:
    """The command line with a state dir of its own, and the stand-in for uv on the path if wanted."""

    def __init__(self, folder: Path, *, uv: bool) -> None:
        self.state = folder / "state"
        self.engines = self.state / "engines"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        path = os.environ["PATH"]
        if uv:
            (folder / "bin").mkdir()
            (folder / "bin" / "uv").write_text(UV)
            (folder / "bin" / "uv").chmod(0o755)
            path = f"{folder / 'bin'}:{path}"
        self.env = {"PATH": path, "HOME": str(folder), "PIP_NO_INDEX": "1"}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "appliance", "engine", words[0], "--state-dir", str(self.state), *words[1:]]
        return subprocess.run(argv, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120, check=False)

    def install(self, spec: str) -> subprocess.CompletedProcess[str]:
        return self("install", spec, "--find-links", str(self.wheels))


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path, uv=True)


def test_an_engine_is_installed_listed_and_removed(cli: Cli) -> None:
    make_wheel(cli.wheels, "vllm", "0.1.0")
    make_wheel(cli.wheels, "vllm", "0.2.0")
    done = cli.install("vllm")
    assert (done.returncode, done.stdout) == (0, "vllm-0.2.0 is ready; `serve --engine vllm MODEL` uses it\n"), done
    assert cli.install("vllm==0.1.0").returncode == 0
    again = cli.install("vllm==0.1.0")
    assert "is installed already" in again.stderr
    rows = json.loads(cli("list", "--json").stdout)
    assert [(row["name"], row["in_use"], row["size_bytes"] > 0) for row in rows] == [
        ("vllm-0.2.0", False, True),
        ("vllm-0.1.0", False, True),
    ]
    with in_use(cli.engines / "vllm-0.1.0"):
        refused = cli("remove", "vllm-0.1.0")
        assert (refused.returncode, "in use" in refused.stderr) == (1, True)
    assert cli("remove", "vllm-0.1.0").returncode == 0
    assert sorted(path.name for path in cli.engines.iterdir() if path.is_dir()) == ["vllm-0.2.0"]


def test_a_failed_install_says_why_and_goes_on_later(cli: Cli) -> None:
    failed = cli.install("vllm==9.9.9")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].endswith("the index has no such version for this Python")
    make_wheel(cli.wheels, "vllm", "9.9.9", "raise ImportError('needs a driver')")
    broken = cli.install("vllm==9.9.9")
    assert "going on with vllm-9.9.9.partial" in broken.stderr
    assert "cannot be imported: ImportError: needs a driver" in broken.stderr.splitlines()[-1]
    assert cli("list", "--json").stdout == "[]\n"
    make_wheel(cli.wheels, "vllm", "9.9.9")
    assert cli.install("vllm==9.9.9").returncode == 0
    assert [path.name for path in cli.engines.iterdir() if path.is_dir()] == ["vllm-9.9.9"]


def test_an_unknown_engine_is_refused_before_anything_is_made(cli: Cli) -> None:
    refused = cli.install("torch")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert not cli.engines.exists()


@pytest.mark.slow
def test_pip_does_it_without_uv(tmp_path: Path) -> None:
    cli = Cli(tmp_path, uv=False)
    make_wheel(cli.wheels, "sglang", "0.5.2")
    done = cli.install("sglang==0.5.2")
    assert done.returncode == 0, done.stderr
    python = cli.engines / "sglang-0.5.2" / "bin" / "python"
    found = subprocess.run([python, "-c", "import sglang"], timeout=30, check=False)
    assert found.returncode == 0

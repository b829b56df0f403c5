"""`build/native.py`: what it compiles and when, and what it says where it cannot."""

import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTENSIONS = runpy.run_path(str(ROOT / "build/native.py"))["EXTENSIONS"]
FOLDER = Path("appliance/routing/native")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script, and one source that compiles in each folder."""
    (tmp_path / "build").mkdir()
    shutil.copy(ROOT / "build/native.py", tmp_path / "build")
    for folder in EXTENSIONS:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.c").write_text('#include "one.h"\nint one(void) { return ONE; }\n')
        (tmp_path / folder / "one.h").write_text("#include <Python.h>\n#define ONE 1\nint one(void);\n")
    return tmp_path


def build(checkout: Path, **environ: str) -> tuple[int, str, list[Path]]:
    """Exit status, what was printed, and the modules that are there."""
    script = [sys.executable, "build/native.py"]
    env = {"PATH": environ.get("path", "/usr/bin:/bin:/usr/local/bin")}
    done = subprocess.run(script, cwd=checkout, env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr, sorted((checkout / FOLDER).glob("*.so*"))


def test_without_a_compiler_it_says_so_in_one_line_and_ends_well(checkout: Path) -> None:
    status, said, modules = build(checkout, path="/nowhere")
    assert (status, said.count("\n"), modules) == (0, 1, [])
    assert said.endswith("is missing; native code is not built, and Python does its work\n")


def test_compiles_when_a_source_is_newer_and_only_then(checkout: Path) -> None:
    _needs_compiler()
    status, said, [module] = build(checkout)
    assert (status, said, module.name) == (0, "", "block_tree" + sysconfig.get_config_var("EXT_SUFFIX"))
    made = module.stat().st_mtime_ns
    assert build(checkout) == (0, "", [module])
    assert module.stat().st_mtime_ns == made
    (checkout / FOLDER / "one.h").touch()
    assert build(checkout) == (0, "", [module])
    assert module.stat().st_mtime_ns > made


def test_sources_that_do_not_compile_are_an_error(checkout: Path) -> None:
    _needs_compiler()
    [module] = build(checkout)[2]
    made = module.stat().st_mtime_ns
    (checkout / FOLDER / "two.c").write_text("int broken = ;\n")
    status, said, modules = build(checkout)
    assert status == 1
    assert said.endswith("error: cannot compile appliance/routing/native\n")
    assert (modules, module.stat().st_mtime_ns) == ([module], made)


def test_a_warning_stops_nobody(checkout: Path) -> None:
    _needs_compiler()
    (checkout / FOLDER / "two.c").write_text("static int unused(void) { return 1; }\n")
    status, said, modules = build(checkout)
    assert (status, len(modules)) == (0, 1)
    assert "unused" in said


def test_our_sources_give_no_warnings(tmp_path: Path) -> None:
    _needs_compiler()
    for folder in EXTENSIONS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.so"))
    (tmp_path / "build").mkdir()
    shutil.copy(ROOT / "build/native.py", tmp_path / "build")
    assert build(tmp_path)[:2] == (0, "")


def _needs_compiler() -> None:
    if shutil.which("gcc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("gcc or Python.h is not installed; they compile the native code")

"""The rules of the house that a machine can check: imports, sizes, docstrings, and who may touch what."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "appliance"
MODULES = sorted(PACKAGE.rglob("*.py"))

MODULE_LINES = 500
FUNCTION_LINES = 80
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}

READS_ENVIRONMENT = {"core/config.py"}
STARTS_PROCESSES = {"supervision/process.py", "supervision/guard_client.py", "cli/temporary.py"}
"""`guard_client` handles the pipes of what `process` starts; `temporary` runs before there is a supervisor."""

HEAVY = ("trio", "quart", "hypercorn", "rich", "tokenizers", "xllamacpp", "sqlite_utils", "jinja2", "yaml", "msgspec")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
PublicNode = FunctionNode | ast.ClassDef


def place(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def parse(module: Path) -> ast.Module:
    return ast.parse(module.read_text(), str(module))


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode):
            yield node


def test_import_contracts_hold(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_too_long() -> None:
    lengths = {place(module): len(module.read_text().splitlines()) for module in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{place(module)}:{node.name}": lines
        for module in MODULES
        for node in functions(parse(module))
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    }
    assert long == {}


def test_no_module_has_a_vague_name() -> None:
    assert [place(module) for module in MODULES if module.stem in VAGUE_NAMES] == []


def test_every_module_says_what_it_holds() -> None:
    assert [place(module) for module in MODULES if not ast.get_docstring(parse(module))] == []


def test_public_classes_and_functions_have_docstrings() -> None:
    silent = [
        f"{place(module)}:{node.name}"
        for module in MODULES
        for node in parse(module).body
        if isinstance(node, PublicNode) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_only_the_configuration_reads_the_environment() -> None:
    readers = {place(module) for module in MODULES if _environment_reads(parse(module))}
    assert readers <= READS_ENVIRONMENT


def _environment_reads(tree: ast.Module) -> list[ast.Attribute]:
    """Uses of `os.environ` and `os.getenv`; setting one variable for a library is no reading."""
    set_only = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node not in set_only
    ]


def test_processes_are_started_in_few_places() -> None:
    starters = {place(module) for module in MODULES if any(_is_process_start(node) for node in ast.walk(parse(module)))}
    assert starters <= STARTS_PROCESSES


def _is_process_start(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in ("subprocess", "multiprocessing") for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in ("subprocess", "multiprocessing")
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("fork", "forkpty", "system", "popen", "posix_spawn", "run_process", "open_process")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("os", "trio")
    )


def test_the_command_line_loads_lazily() -> None:
    code = (
        "import sys, appliance.cli, appliance.cli.program, appliance.cli.version\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["appliance.core.ports", "appliance.roles.options"])
def test_imports_have_no_side_effects(module: str) -> None:
    code = f"import threading, {module}; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")

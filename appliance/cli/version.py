"""`version`: what this executable is made of."""

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import click

import appliance
from appliance.cli.output import print_json
from appliance.cli.verb import Verb, json_flag

PACKAGE = Path(appliance.__file__).parent
BUILD_FACTS = PACKAGE / "_build.json"  # written when the executable is built
ENGINES = {"llamacpp": "xllamacpp", "mocker": None}
"""Engines inside this executable, and the distribution whose version is theirs."""


@click.command(cls=Verb)
@json_flag
def version(as_json: bool) -> None:
    """Show version, commit, Python and engines."""
    facts = version_facts()
    if as_json:
        print_json(facts)
        return
    commit = f" (commit {facts['commit']})" if facts["commit"] else ""
    engines = ", ".join(f"{name} {engine}".strip() for name, engine in facts["engines"].items())
    click.echo(f"dynamo-appliance {facts['version']}{commit}\npython {facts['python']}\nengines {engines}")


def version_facts() -> dict[str, Any]:
    """What `version --json` prints."""
    return {
        "version": appliance.__version__,
        "commit": _built_commit() or read_commit(PACKAGE.parent),
        "python": platform.python_version(),
        "engines": {name: _distribution(package) if package else "" for name, package in ENGINES.items()},
    }


def read_commit(clone: Path) -> str | None:
    """Short commit id of a clone, read from its files; None when it is none or packed in a way not known here."""
    git = clone / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:12]
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()[:12]
        packed = (line.split(" ") for line in (git / "packed-refs").read_text().splitlines())
        return next((words[0][:12] for words in packed if words[-1] == name), None)
    except OSError:
        return None


def _built_commit() -> str | None:
    try:
        commit: str | None = json.loads(BUILD_FACTS.read_text()).get("commit")
        return commit
    except (OSError, ValueError):
        return None


def _distribution(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"

"""Manifests: multi-document YAML in, documents of known kinds and of the newest version out."""

from dataclasses import dataclass, field
from typing import Any

from appliance.core.errors import Unprocessable
from appliance.graph.alpha import convert_alpha
from appliance.graph.kinds import ALPHA, BETA, DGD, KINDS
from appliance.graph.problem import Problem, nearest
from appliance.graph.yaml_text import load_yaml


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One document of a file."""

    kind: str
    api_version: str
    """As it was written; `document` is always of the newest version."""
    name: str
    document: dict[str, Any]
    line: int
    """1-based line at which it starts."""
    problems: list[Problem] = field(default_factory=list)
    """Warnings of the conversion from an older version."""


def parse_manifests(text: str, source: str = "manifest") -> list[Manifest]:
    """All documents of a YAML (or JSON) text; empty ones are passed over, a `List` gives its items.

    `source` names the file in messages. Raises `Unprocessable`, one line with place and cause: broken YAML, a repeated
    key, an unknown kind or version, a missing name, a text too large.
    """
    manifests = [
        _manifest(document, f"{source}, line {line}", line)
        for value, line in load_yaml(text, source)
        for document in _documents(value, f"{source}, line {line}")
    ]
    if not manifests:
        raise Unprocessable(f"{source}: holds no object")
    return manifests


def _manifest(document: dict[str, Any], place: str, line: int) -> Manifest:
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str):
        raise Unprocessable(f"{place}: needs apiVersion and kind, such as {BETA} {DGD}")
    _check_known(kind, version, place)
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise Unprocessable(f"{place}: {kind} has no metadata.name")
    problems: list[Problem] = []
    if version == ALPHA:
        document, problems = convert_alpha(document)
    return Manifest(kind=kind, api_version=version, name=name, document=document, line=line, problems=problems)


def _check_known(kind: str, version: str, place: str) -> None:
    known = {one.kind: one for one in KINDS}
    if kind not in known:
        raise Unprocessable(f"{place}: unknown kind {kind}; {nearest(kind, list(known))}")
    if not known[kind].on_box:
        kept = ", ".join(one.kind for one in KINDS if one.on_box)
        raise Unprocessable(f"{place}: a box keeps no {kind}; it keeps {kept}")
    if version not in known[kind].versions:
        raise Unprocessable(f"{place}: {kind} has no version {version}; {nearest(version, known[kind].versions)}")


def _documents(value: object, place: str) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        raise Unprocessable(f"{place}: must be an object with apiVersion and kind, not {_name_of(value)}")
    if value.get("kind") != "List":
        return [value]
    items = value.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Unprocessable(f"{place}: items of a List must be objects")
    return items


def _name_of(value: object) -> str:
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "a single value"

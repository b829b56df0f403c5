"""Which files of a repository an engine needs: one GGUF model, or weights with their settings. Pure.

Nothing that runs code when it is loaded is taken unless it was allowed: no Python, no pickles.
"""

import re
from dataclasses import dataclass
from typing import Literal

from appliance.core.errors import ModelUnavailable
from appliance.models.hub.files import RepoFile, Selection, Snapshot
from appliance.models.hub.gguf_choice import choose_gguf, gguf_models

Form = Literal["gguf", "any", "folder"]
"""What an engine runs: GGUF only, GGUF where there is some, or a folder of safetensors."""

SETTINGS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
SUBFOLDERS = re.compile(r"^(?:additional_chat_templates|\d+_[A-Za-z]+)/[^/]+\.(?:json|jinja|safetensors)$")
STANDARD = re.compile(r"^model(?:-\d{5}-of-\d{5})?\.safetensors$")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
PICKLED_WEIGHTS = re.compile(r"^(?:pytorch_)?model(?:-\d{5}-of-\d{5})?\.(?:bin|pt|pth)$")
PART_OF = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.[a-z]+$")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the puller wants of a repository."""

    form: Form = "any"
    room_bytes: int | None = None
    """Memory that a GGUF model shall fit into; None: any."""
    allow_remote_code: bool = False
    allow_pickle: bool = False


def form_for(engine: str) -> Form:
    """The form of model files that an engine runs."""
    return {"llamacpp": "gguf", "auto": "any"}.get(engine, "folder")  # type: ignore[return-value]  # values of Form


def choose_files(snapshot: Snapshot, file: str | None, wish: Wish) -> Selection:
    """The files to fetch. Raises `ModelUnavailable` with what is missing, ambiguous or refused."""
    models = gguf_models(snapshot.files)
    if models and (wish.form != "folder" or file is not None):
        return choose_gguf(snapshot.repo, models, file, wish.room_bytes)
    if file is not None:
        raise ModelUnavailable(f"{snapshot.repo} has no GGUF file {file}: it has no GGUF file at all")
    if wish.form == "gguf":
        raise ModelUnavailable(
            f"{snapshot.repo} holds no GGUF file, and the embedded engine runs nothing else; "
            "look for a repository of the same model with GGUF in its name, or choose another --engine"
        )
    return _choose_folder(snapshot, wish)


def _choose_folder(snapshot: Snapshot, wish: Wish) -> Selection:
    top = [file for file in snapshot.files if "/" not in file.path]
    weights = _weights(snapshot.repo, top, wish)
    pickled = weights[0].name.endswith(PICKLES)
    settings = [file for file in top if file.name.endswith(SETTINGS) and (pickled or ".bin.index." not in file.name)]
    settings += [file for file in snapshot.files if SUBFOLDERS.match(file.path)]
    code = [file for file in top if file.name.endswith(".py")] if wish.allow_remote_code else []
    if not any(file.path == "config.json" for file in settings):
        raise ModelUnavailable(
            f"{snapshot.repo} has weights and no config.json: it is no model that an engine here runs"
        )
    files = sorted([*settings, *code, *weights], key=lambda one: (one in weights, one.path))
    return Selection(main="", files=tuple(files), why=f"weights ({len(weights)} files) and settings")


def _weights(repo: str, top: list[RepoFile], wish: Wish) -> list[RepoFile]:
    """Weight files at the top of the repository; where the standard names exist, no variants beside them."""
    safe = [file for file in top if file.name.endswith(".safetensors")]
    standard = [file for file in safe if STANDARD.match(file.name)]
    if found := standard or safe:
        return _all_parts(repo, found)
    pickles = [file for file in top if PICKLED_WEIGHTS.match(file.name)]
    if not pickles:
        raise ModelUnavailable(f"{repo} holds no model weights (no GGUF and no safetensors files)")
    if not wish.allow_pickle:
        raise ModelUnavailable(
            f"{repo} has its weights only as {pickles[0].name}, a pickle, which can run any code when it is loaded; "
            "allow that with --allow-pickle if you trust its author"
        )
    return _all_parts(repo, pickles)


def _all_parts(repo: str, files: list[RepoFile]) -> list[RepoFile]:
    parts: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if match := PART_OF.match(file.name):
            parts.setdefault((match["stem"], int(match["count"])), set()).add(int(match["number"]))
    for (stem, count), numbers in parts.items():
        if missing := set(range(1, count + 1)) - numbers:
            raise ModelUnavailable(f"{repo} lacks part {min(missing)} of {count} of its weights {stem}")
    return files

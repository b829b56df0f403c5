"""Which GGUF file of a repository to take: the largest quantisation that fits into memory. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.core.errors import ModelUnavailable
from appliance.models.gguf_facts import SHARD
from appliance.models.hub.files import RepoFile, Selection

GB = 1e9
TAG = re.compile(
    r"(?:^|[-._])(?P<tag>(?:UD-)?(?:I?Q[1-8][A-Z0-9_]*|TQ[12]_0|MXFP4[A-Z0-9_]*|BF16|F(?:P)?16|F(?:P)?32))(?=[-._]|$)",
    re.IGNORECASE,
)
UNQUANTISED = frozenset({"BF16", "F16", "FP16", "F32", "FP32"})
NO_MODEL = re.compile(r"^(?:mmproj|imatrix)|imatrix", re.IGNORECASE)
CACHE_SHARE = 0.1  # of the weights: a short context; the engine takes a longer one where there is room
FIXED_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class GgufModel:
    """One model in a repository: a file, or all shards of one."""

    main: str
    files: tuple[RepoFile, ...]
    stem: str
    """The name without shard numbers and ending, with its folder."""
    whole: bool
    """All shards are there."""

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(file.size for file in self.files)

    @property
    def need_bytes(self) -> int:
        """Least memory that it runs in."""
        return int(self.size * (1 + CACHE_SHARE)) + FIXED_BYTES

    @property
    def tag(self) -> str:
        """The quantisation by the name, in capitals; empty when the name does not say."""
        found = TAG.findall(self.stem.rpartition("/")[2])
        return str(found[-1]).upper() if found else ""


def gguf_models(files: Iterable[RepoFile]) -> list[GgufModel]:
    """The models among the files, shards joined; no projectors, no importance matrices. Sorted by path."""
    groups: dict[tuple[str, int], list[RepoFile]] = {}
    for file in sorted(files, key=lambda one: one.path):
        if not file.name.lower().endswith(".gguf") or NO_MODEL.search(file.name):
            continue
        shard = SHARD.match(file.path)
        key = (shard["stem"], int(shard["count"])) if shard else (file.path[: -len(".gguf")], 1)
        groups.setdefault(key, []).append(file)
    return [_model(stem, count, parts) for (stem, count), parts in groups.items()]


def _model(stem: str, count: int, parts: list[RepoFile]) -> GgufModel:
    numbers = {int(match["number"]) for part in parts if (match := SHARD.match(part.path))}
    whole = numbers == set(range(1, count + 1)) if numbers else True
    return GgufModel(main=parts[0].path, files=tuple(parts), stem=stem, whole=whole)


def choose_gguf(repo: str, models: Sequence[GgufModel], wanted: str | None, room_bytes: int | None) -> Selection:
    """The model to take: what `wanted` names, else the largest quantised one that needs at most `room_bytes`.

    Unquantised files count only where there is nothing else: they are slow and hardly better. `room_bytes` None: no
    bound. Raises `ModelUnavailable` when nothing matches or fits, with what there is.
    """
    usable = [model for model in models if model.whole]
    if not usable:
        raise ModelUnavailable(f"{repo} holds only some of the shards of {models[0].main}")
    if wanted is not None:
        model = _named(repo, usable, wanted)
        return Selection(main=model.main, files=model.files, why=f"{model.main} was asked for")
    quantised = [model for model in usable if model.tag not in UNQUANTISED] or usable
    fitting = [model for model in quantised if room_bytes is None or model.need_bytes <= room_bytes]
    if not fitting:
        least = min(quantised, key=lambda one: (one.size, one.main))
        name = least.tag or least.main
        raise ModelUnavailable(
            f"no file of {repo} fits into {(room_bytes or 0) / GB:.1f} GB of available memory: {least.main}, the "
            f"smallest, needs {least.need_bytes / GB:.1f} GB; take it nevertheless with {repo}:{name}"
        )
    best = max(fitting, key=lambda one: (one.size, one.main))
    return Selection(main=best.main, files=best.files, why=_why(best, len(usable), room_bytes))


def _named(repo: str, models: Sequence[GgufModel], wanted: str) -> GgufModel:
    """The one model with this path, else this name with or without its ending, else this quantisation."""
    ways = (
        [model for model in models if wanted in {file.path for file in model.files}],
        [model for model in models if wanted in _names(model)],
        [model for model in models if wanted.upper() == model.tag],
        [model for model in models if wanted.upper() == model.tag.removeprefix("UD-")],
    )
    found = next(filter(None, ways), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelUnavailable(f"{wanted} names more than one file of {repo}: {_listed(found)}")
    raise ModelUnavailable(f"{repo} has no GGUF file {wanted}; it has {_listed(models)}")


def _names(model: GgufModel) -> set[str]:
    return {model.stem, model.stem.rpartition("/")[2], *(file.name for file in model.files)}


def _why(model: GgufModel, count: int, room_bytes: int | None) -> str:
    if count == 1:
        return f"{model.main} is the only GGUF model there"
    room = "" if room_bytes is None else f" that fits into {room_bytes / GB:.1f} GB of available memory"
    return f"{model.main} is the largest quantisation of {count} files{room}"


def _listed(models: Sequence[GgufModel], limit: int = 12) -> str:
    names = [model.main for model in models]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")

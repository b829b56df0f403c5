"""Where workers may be found, as a user says it. Pure."""

from dataclasses import dataclass
from pathlib import Path

from appliance.core.errors import UsageError
from appliance.core.identity import WorkerId

SUFFIX = ".sock"


@dataclass(frozen=True, kw_only=True)
class SocketPlaces:
    """Where to look: all `*.sock` of one folder, or sockets at these paths, whether or not they are there yet."""

    folder: Path | None = None
    sockets: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else ",".join(map(str, self.sockets))


def parse_places(text: str) -> SocketPlaces:
    """`FOLDER`, or `SOCKET,...` with names that end in `.sock`. Raises `UsageError`."""
    parts = [part for part in text.split(",") if part]
    paths = [Path(part).expanduser().absolute() for part in parts]
    if len(paths) == 1 and paths[0].suffix != SUFFIX:
        return SocketPlaces(folder=paths[0])
    if not paths or any(path.suffix != SUFFIX for path in paths):
        raise UsageError(f"cannot use {text!r} for workers: give one folder, or sockets NAME{SUFFIX},...")
    names = [worker_of(path) for path in paths]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two workers are named {double}: a worker is known by the name of its socket")
    return SocketPlaces(sockets=tuple(paths))


def worker_of(path: Path) -> WorkerId:
    """The worker behind a socket: the name of the file, which stays when the worker is started again."""
    return WorkerId(path.name.removesuffix(SUFFIX))

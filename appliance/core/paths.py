"""Where state, sockets, logs and settings lie. Reads no environment itself: `core/config.py` passes it in."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

APP = "dynamo-appliance"
SOCKET_PATH_LIMIT = 100  # bytes; the kernel takes 107, and our longest socket name must fit behind the folder
LONGEST_SOCKET_NAME = 20
CONTROL_SOCKET = "control.sock"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The folders of one appliance. Nothing is created here."""

    state_dir: Path
    run_dir: Path
    logs_dir: Path | None = None
    """Where the service manager wants log files; None: in the state dir."""

    @property
    def database(self) -> Path:
        return self.state_dir / "appliance.db"

    @property
    def models(self) -> Path:
        return self.state_dir / "models"

    @property
    def logs(self) -> Path:
        return self.logs_dir or self.state_dir / "logs"

    @property
    def lock(self) -> Path:
        return self.state_dir / "appliance.lock"

    @property
    def admin_socket(self) -> Path:
        return self.run_dir / "admin.sock"

    @property
    def control_socket(self) -> Path:
        return self.run_dir / CONTROL_SOCKET

    @property
    def bus_socket(self) -> Path:
        return self.run_dir / "bus.sock"

    def link_socket(self, worker: str) -> Path:
        """Socket of a worker's link server; a hash of its id keeps the name short."""
        return self.run_dir / f"w-{short_hash(worker)}.sock"


def control_socket_beside(bus_socket: Path) -> Path:
    """Where the control app serves, for a child that only knows the bus; both lie in the run dir."""
    return bus_socket.with_name(CONTROL_SOCKET)


def transfer_folder(link_socket: Path) -> Path:
    """Where workers of one box hand KV caches over, for a worker that only knows its socket; in the run dir."""
    return link_socket.with_name("kv")


def short_hash(text: str) -> str:
    """Twelve hex digits that tell texts apart on one machine."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def resolve_paths(state_dir: str | None, environ: Mapping[str, str]) -> Paths:
    """State dir: flag, systemd's `STATE_DIRECTORY`, else XDG. Run dir: systemd's, XDG's, else under the state dir."""
    state = Path(state_dir or _state_default(environ)).expanduser().absolute()
    logs = environ.get("LOGS_DIRECTORY")
    return Paths(state_dir=state, run_dir=_run_dir(state, environ), logs_dir=Path(logs.split(":")[0]) if logs else None)


def config_file_default(environ: Mapping[str, str]) -> Path:
    """`appliance.toml` in the user's config folder."""
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
    return Path(base) / APP / "appliance.toml"


def _state_default(environ: Mapping[str, str]) -> str:
    if systemd := environ.get("STATE_DIRECTORY"):
        return systemd.split(":")[0]
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    return str(Path(base) / APP)


def _run_dir(state: Path, environ: Mapping[str, str]) -> Path:
    tag = short_hash(str(state))
    if systemd := environ.get("RUNTIME_DIRECTORY"):
        candidate = Path(systemd.split(":")[0])
    elif xdg := environ.get("XDG_RUNTIME_DIR"):
        candidate = Path(xdg) / f"{APP}-{tag}"
    else:
        candidate = state / f"run-{tag}"
    short = f"{APP}-{os.getuid()}-{tag}"
    # The temp dir may be as deep as the state dir; `/tmp` is the last one that is surely short enough.
    for folder in (candidate, Path(environ.get("TMPDIR") or tempfile.gettempdir()) / short):
        if len(os.fsencode(str(folder))) + LONGEST_SOCKET_NAME <= SOCKET_PATH_LIMIT:
            return folder
    return Path("/tmp") / short

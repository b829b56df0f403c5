"""Where settings come from: defaults, a TOML file, the environment, flags. The only reader of `os.environ`."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from appliance.core.collector import GRPC_PORT, HTTP_PORT, parse_collector
from appliance.core.errors import UsageError
from appliance.core.setting_keys import FALSE, KEYS, TRUE, check_value, parse_text, unknown_key
from appliance.core.settings import AuditSettings, RouterSettings, Settings

PREFIX = "APPLIANCE_"
BUS_SOCKET = "APPLIANCE_BUS_SOCKET"
LINK_SOCKET = "APPLIANCE_LINK_SOCKET"
WORKER_ID = "APPLIANCE_WORKER_ID"
PARENT_PID = "APPLIANCE_PARENT_PID"
LISTEN_FDS = "APPLIANCE_LISTEN_FDS"
STATE_DIR = "APPLIANCE_STATE_DIR"
CONFIG_FILE = "APPLIANCE_CONFIG"

OVERLAP_WEIGHTS = ("DYN_OVERLAP_SCORE_WEIGHT", "DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT")
"""Obsolete names of `router.prefill_load_scale`; a weight of 0 also turns the credit for prefixes off."""

JSON_LINES = "DYN_LOGGING_JSONL"
"""Dynamo's switch for what `log.format` chooses."""

AUDIT_SINKS = ("jsonl", "stderr")

HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

OTHERS = ("HF_", "OTEL_")
"""Beginnings of names that are not Dynamo's and not ours."""

CHILD_VARIABLES = frozenset({BUS_SOCKET, LINK_SOCKET, WORKER_ID, PARENT_PID, LISTEN_FDS})
"""Set by the supervisor for its children, never by users."""
PLACES = frozenset({STATE_DIR, CONFIG_FILE})
"""Twins of `--state-dir` and `--config`."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Settings, and how they came about."""

    settings: Settings
    sources: dict[str, str]
    """Per key: `default`, `file PATH`, `environment NAME` or `flag`."""
    warnings: list[str]
    """What was ignored, or can hardly be meant, one line each."""


@dataclass(frozen=True, kw_only=True)
class ChildEnvironment:
    """What the supervisor tells a child through its environment; all empty in a process that a user started."""

    bus_socket: Path | None = None
    link_socket: Path | None = None
    worker_id: str | None = None
    parent_pid: int | None = None
    listen_fds: tuple[int, ...] = ()
    """Descriptors of inherited listening sockets."""

    def variables(self) -> dict[str, str]:
        """The same as environment variables, for the child to read."""
        found = {
            BUS_SOCKET: self.bus_socket,
            LINK_SOCKET: self.link_socket,
            WORKER_ID: self.worker_id,
            PARENT_PID: self.parent_pid,
            LISTEN_FDS: ",".join(map(str, self.listen_fds)) or None,
        }
        return {name: str(value) for name, value in found.items() if value is not None}


def environment() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)


def read_child_environment(environ: Mapping[str, str]) -> ChildEnvironment:
    """What the supervisor said. Raises `UsageError` for a number that is none."""
    bus, link = environ.get(BUS_SOCKET), environ.get(LINK_SOCKET)
    try:
        parent = environ.get(PARENT_PID)
        return ChildEnvironment(
            bus_socket=Path(bus) if bus else None,
            link_socket=Path(link) if link else None,
            worker_id=environ.get(WORKER_ID) or None,
            parent_pid=int(parent) if parent else None,
            listen_fds=tuple(int(fd) for fd in environ.get(LISTEN_FDS, "").split(",") if fd),
        )
    except ValueError:
        raise UsageError(f"cannot read {PARENT_PID} and {LISTEN_FDS}: not numbers") from None


def hub_token_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with a hub's access token, for a child that is to have it although secrets are not passed on."""
    return {name: environ[name] for name in HUB_TOKENS if environ.get(name)}


def read_hub_token(environ: Mapping[str, str], token_file: str | None) -> str | None:
    """The access token for a hub: from the environment, the file of the setting, or where the hub's tools keep it."""
    if found := hub_token_variables(environ):
        return next(iter(found.values())).strip()
    caches = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/")) / ".cache")
    folder = Path(environ.get("HF_HOME") or caches / "huggingface")
    path = Path(token_file).expanduser() if token_file else folder / "token"
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        if token_file is None:
            return None
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"cannot read the token file {path}: {reason}", param="hub.token_file") from None


def without_child_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment that a new, independent appliance may be started with."""
    return {name: value for name, value in environ.items() if name not in CHILD_VARIABLES}


def settings_environment(settings: Settings) -> dict[str, str]:
    """All settings as `APPLIANCE_*` variables: a child that reads them gets the same, whatever else it inherits."""
    values = {}
    for key in KEYS.values():
        value = getattr(getattr(settings, key.group), key.name)
        values[key.environment[-1]] = (
            "" if value is None else ",".join(value) if isinstance(value, tuple) else str(value)
        )
    return values


def load_settings(*, config_file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Settings from all sources; a later source wins key by key.

    `flags` maps keys (`http.port`) to texts or values; None means that the flag was not given. Raises `UsageError` for
    an unreadable file, an unknown key in file or flags, and a value that cannot be used, naming key and source.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(KEYS, "default")
    if config_file is not None:
        for key, value in _read_file(config_file).items():
            values[key], sources[key] = value, f"file {config_file}"
    for key, (name, value) in _read_environment(environ).items():
        values[key], sources[key] = value, f"environment {name}"
    for key, value in _read_flags(flags).items():
        values[key], sources[key] = value, "flag"
    settings = _build(values)
    check_settings(settings)
    obsolete = [f"{name} is obsolete: use DYN_ROUTER_PREFILL_LOAD_SCALE" for name in OVERLAP_WEIGHTS if name in environ]
    warnings = _unknown_variables(environ) + obsolete + _doubts(settings)
    return Loaded(settings=settings, sources=sources, warnings=warnings)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the settings file {path}: {error}") from None
    found = {}
    groups = sorted({key.group for key in KEYS.values()})
    for group, table in tables.items():
        if not isinstance(table, dict) or group not in groups:
            raise unknown_key(group, groups if isinstance(table, dict) else KEYS, f"file {path}")
        for name, value in table.items():
            key = f"{group}.{name}"
            if key not in KEYS:
                raise unknown_key(key, KEYS, f"file {path}")
            found[key] = check_value(KEYS[key], value, f"file {path}")
    return found


def _read_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for key in KEYS.values():
        for name in key.environment:
            if name in environ and (environ[name] or not name.startswith(OTHERS)):  # their empty ones mean: not set
                found[key.key] = (name, parse_text(key, environ[name], f"environment {name}"))
    if environ.get(JSON_LINES) and KEYS["log.format"].environment[-1] not in environ:
        found["log.format"] = (JSON_LINES, _log_format(environ[JSON_LINES]))
    scale = "router.prefill_load_scale"
    for name in OVERLAP_WEIGHTS:  # beats the newer name, as upstream does; what the supervisor hands down beats both
        if name in environ and KEYS[scale].environment[-1] not in environ:
            weight = parse_text(KEYS[scale], environ[name], f"environment {name}")
            found[scale] = (name, weight)
            if not weight:
                found["router.overlap_score_credit"] = (name, 0.0)
    return found


def _log_format(switch: str) -> str:
    if switch.lower() not in TRUE + FALSE:
        raise UsageError(f"cannot use {switch!r} for {JSON_LINES}: must be true or false", param="log.format")
    return "jsonl" if switch.lower() in TRUE else "text"


def _read_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    found = {}
    for key, value in flags.items():
        if key not in KEYS:
            raise unknown_key(key, KEYS, "flag")
        if isinstance(value, str):
            found[key] = parse_text(KEYS[key], value, "flag")
        elif value is not None:
            found[key] = check_value(KEYS[key], value, "flag")
    return found


def _build(values: Mapping[str, Any]) -> Settings:
    groups = {}
    for group in fields(Settings):
        own = {k.partition(".")[2]: v for k, v in values.items() if k.startswith(group.name + ".")}
        groups[group.name] = replace(getattr(Settings(), group.name), **own)
    return Settings(**groups)


def check_settings(settings: Settings) -> None:
    """Raise `UsageError` for settings that are of no use together."""
    _check_paths_differ(settings)
    if (settings.http.tls_cert_path is None) != (settings.http.tls_key_path is None):
        raise UsageError("http.tls_cert_path and http.tls_key_path must be set together", param="http.tls_cert_path")
    _check_router(settings.router)
    if not settings.hub.endpoint.startswith(("https://", "http://")):
        raise UsageError(f"hub.endpoint {settings.hub.endpoint!r} is no http(s) address", param="hub.endpoint")
    parse_collector(settings.trace.endpoint)
    _check_audit(settings.audit)


def _check_audit(audit: AuditSettings) -> None:
    for sink in audit.sinks:
        if sink not in AUDIT_SINKS:
            raise UsageError(
                f"cannot use {sink!r} for audit.sinks: must be among {', '.join(AUDIT_SINKS)}", param="audit.sinks"
            )
    if "jsonl" in audit.sinks and audit.output_path is None:
        raise UsageError("the sink jsonl of audit.sinks needs audit.output_path", param="audit.output_path")


def _doubts(settings: Settings) -> list[str]:
    trace = settings.trace
    if trace.enabled and parse_collector(trace.endpoint).port == GRPC_PORT:
        return [
            f"trace.endpoint {trace.endpoint} has the port of OTLP over gRPC, which is not spoken here: "
            f"collectors take OTLP over HTTP at port {HTTP_PORT}"
        ]
    return []


def _check_router(router: RouterSettings) -> None:
    if router.track_output_blocks and not router.track_active_blocks:
        raise UsageError(
            "router.track_output_blocks needs router.track_active_blocks", param="router.track_output_blocks"
        )
    if router.prefill_load_model != "none" and not (router.track_prefill_tokens and router.queue_policy == "fcfs"):
        raise UsageError(
            f"router.prefill_load_model {router.prefill_load_model} needs router.track_prefill_tokens and "
            "router.queue_policy fcfs",
            param="router.prefill_load_model",
        )


def _check_paths_differ(settings: Settings) -> None:
    seen: dict[str, str] = {}
    for name, path in vars(settings.paths).items():
        if path in seen:
            raise UsageError(f"paths.{seen[path]} and paths.{name} cannot both be {path}", param=f"paths.{name}")
        seen[path] = name


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {name for key in KEYS.values() for name in key.environment} | CHILD_VARIABLES | PLACES
    return [
        f"ignoring the unknown environment variable {name}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    ]

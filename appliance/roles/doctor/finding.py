"""A finding of `doctor`, and what checks get to look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from appliance.core.paths import Paths
from appliance.core.settings import Settings

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line: how it is, and what helps when it is not well."""

    level: Level
    text: str
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is examined. Checks read nothing else, so that tests can make one up."""

    paths: Paths
    settings: Settings | None
    """None: they could not be read, for the reason in `settings_error`."""
    settings_error: str = ""
    warnings: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, Any] | None = None
    """Of the running appliance; None when none answers, for the reason in `status_error`."""
    status_error: str = ""
    root: Path = Path("/")
    """Where /proc, /sys, /run and /etc lie."""


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def warn(text: str, cure: str) -> Finding:
    """It works, but not as it should."""
    return Finding("warn", text, cure)


def fail(text: str, cure: str) -> Finding:
    """It cannot work like this."""
    return Finding("fail", text, cure)


def in_gb(count: float) -> str:
    """Bytes as GB of 10^9."""
    return f"{count / 1e9:.1f} GB"

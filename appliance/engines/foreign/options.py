"""Engine arguments that all foreign servers share; every other one is passed to the server as a flag."""

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.arguments import EngineArguments
from appliance.engines.http.address import ServerAddress, parse_address
from appliance.engines.remote.options import read_key

OWN = (
    "api_key_file",
    "command",
    "disaggregation_mode",
    "health_every_s",
    "kv_events",
    "max_num_seqs",
    "python",
    "url",
    "venv",
)
SWITCH = ("on", "off")
MODES = {
    "aggregated": "aggregated",
    "agg": "aggregated",
    "null": "aggregated",
    "prefill": "prefill",
    "decode": "decode",
}
NEVER_PASSED = ("host", "port", "model", "model_path", "served_model_name", "api_key")
"""Flags of the server that are ours to set."""
_KEY = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class ForeignOptions:
    """How one foreign server is started, or reached."""

    url: ServerAddress | None
    """A server that runs already; None: one is started."""
    command: tuple[str, ...]
    """The server's command; empty: found by `venv`, `python`, the managed environments, the search path."""
    python: str | None
    venv: str | None
    api_key: str | None
    kv_events: bool
    max_num_seqs: int
    role: str
    """`aggregated`, `prefill` or `decode`."""
    health_every_s: float
    passed: dict[str, str] = field(default_factory=dict)
    """Flags for the server, by name with underscores."""

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def flag(self, name: str, default: int) -> int:
        """A whole number among the passed flags."""
        text = self.passed.get(name)
        return int(text) if text is not None and text.isdigit() else default

    def is_on(self, name: str) -> bool:
        """Whether a switch is among the passed flags."""
        return self.passed.get(name, "false").lower() in ("true", "1", "")


def read_options(engine: str, options: EngineOptions) -> ForeignOptions:
    """The typed engine arguments. Raises `UsageError` for a bad value, or a flag that is ours to set."""
    given = {key.replace("-", "_"): value for key, value in options.args.items()}
    own = {key: value for key, value in given.items() if key in OWN}
    passed = {key: value for key, value in given.items() if key not in OWN}
    passed, role = _take_role(passed)
    for key in passed:
        if key in NEVER_PASSED or not _KEY.fullmatch(key):
            raise UsageError(f"engine argument {key!r} cannot be passed to {engine}")
    args = EngineArguments(engine, own, OWN)
    url = args.text("url")
    mode = args.text("disaggregation_mode", role)
    if mode not in MODES:
        raise UsageError(f"engine argument disaggregation_mode={mode!r} of {engine} is none of {', '.join(MODES)}")
    return ForeignOptions(
        url=parse_address(url) if url else None,
        command=tuple(shlex.split(args.text("command") or "")),
        python=args.text("python"),
        venv=args.text("venv"),
        api_key=read_key(args.text("api_key_file")),
        kv_events=args.one_of("kv_events", "on", SWITCH) == "on",
        max_num_seqs=args.integer("max_num_seqs", 256, low=1, high=65536),
        role=MODES[mode],
        health_every_s=args.number("health_every_s", 5.0, low=0.05),
        passed=passed,
    )


def _take_role(passed: dict[str, str]) -> tuple[dict[str, str], str]:
    """The older flags for the halves of a split model, out of the passed ones."""
    role = "aggregated"
    for flag, half in (("is_prefill_worker", "prefill"), ("is_decode_worker", "decode")):
        if passed.get(flag, "false") == "true":
            role = half
    return {key: value for key, value in passed.items() if key not in ("is_prefill_worker", "is_decode_worker")}, role


def flag_words(passed: dict[str, str], skipped: Collection[str] = (), *, negatable: bool = True) -> list[str]:
    """Flags as a command line: `true` is a bare flag, `false` its `--no-` form, several words several values.

    Servers whose switches have no such form are not `negatable`: there `false` is left out.
    """
    words: list[str] = []
    for key, value in passed.items():
        if key in skipped:
            continue
        name = key.replace("_", "-")
        if value.lower() == "true":
            words.append(f"--{name}")
        elif value.lower() == "false":
            words += [f"--no-{name}"] if negatable else []
        elif value.lstrip().startswith(("{", "[")):
            words += [f"--{name}", value]  # JSON is one value, whatever blanks are in it
        else:
            words += [f"--{name}", *_split(key, value)]
    return words


def _split(key: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        raise UsageError(f"engine argument {key}={value!r} has an open quote") from None

"""What all verbs share: the flags that each of them takes, and where they find the appliance they talk about."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.cli.admin_client import AdminClient
from appliance.core.config import CONFIG_FILE, STATE_DIR, Loaded, environment, load_settings
from appliance.core.paths import Paths, config_file_default, resolve_paths

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Call:
    """The flags that every verb takes; `ctx.obj` of the whole command line."""

    state_dir: str | None = None
    debug: bool = False

    @property
    def paths(self) -> Paths:
        """State and run dir of the appliance in question."""
        environ = environment()
        return resolve_paths(self.state_dir or environ.get(STATE_DIR), environ)

    def admin(self) -> AdminClient:
        """The admin API of the running appliance. Raises `NotRunning` when it is called and none runs."""
        return AdminClient.find(self.paths, environment())

    def settings(self, config_file: str | None = None, flags: dict[str, object] | None = None) -> Loaded:
        """Settings from the named file, or the default one if it exists, the environment, and these flags."""
        environ = environment()
        default = config_file_default(environ)
        given = config_file or environ.get(CONFIG_FILE)
        file = Path(given) if given else default if default.is_file() else None
        return load_settings(config_file=file, environ=environ, flags=flags or {})


def _set_state_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(Call).state_dir = value


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Call).debug = True


def _shared_flags() -> list[click.Parameter]:
    return [
        click.Option(
            ["--state-dir"],
            metavar="DIR",
            expose_value=False,
            callback=_set_state_dir,
            help="State of the appliance in question.",
        ),
        click.Option(["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks."),
    ]


class Verb(click.Command):
    """A verb; takes `--state-dir` and `--debug` beside its own flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_shared_flags())


class VerbGroup(click.Group):
    """A verb with sub-verbs; the shared flags may stand before or behind the sub-verb."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_shared_flags())


def json_flag(function: F) -> F:
    """`--json`: machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)

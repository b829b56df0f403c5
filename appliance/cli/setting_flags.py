"""Flags made from settings: name, values and help come from the setting, so that flag, file and environment agree."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from appliance.core.setting_docs import setting_docs
from appliance.core.setting_keys import KEYS, SettingKey

F = TypeVar("F", bound=Callable[..., Any])


def setting_flags(flags: Mapping[str, str]) -> Callable[[F], F]:
    """Options for a map of flags to setting keys. They carry texts: `core/config.py` parses and checks them."""

    def add(function: F) -> F:
        for flag, key in reversed(list(flags.items())):
            function = _option(flag, KEYS[key])(function)
        return function

    return add


def setting_values(flags: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, object]:
    """Values by setting key of the flags that were given on the command line."""
    values: dict[str, object] = {}
    for flag, key in flags.items():
        value = given[_parameter(flag)]
        if value is not None and value != ():
            values[key] = list(value) if isinstance(value, tuple) else value
    return values


def _option(flag: str, key: SettingKey) -> Callable[[F], F]:
    help_text = _first_sentence(setting_docs().get(key.key, ""))
    if key.type is bool:
        name = f"{flag}/--no-{flag.removeprefix('--')}" if key.default else flag
        return click.option(name, is_flag=True, default=None, help=_with_default(help_text, key))
    kind = click.Choice(key.choices) if key.choices else str
    metavar = None if key.choices else "NUMBER" if key.number else "TEXT"
    several = isinstance(key.default, tuple)
    return click.option(flag, type=kind, metavar=metavar, multiple=several, help=_with_default(help_text, key))


def _with_default(help_text: str, key: SettingKey) -> str:
    if key.default is None or key.default == () or key.default is False:
        return help_text
    default = "on" if key.default is True else f"{key.default:g}" if key.number is float else key.default
    return f"{help_text}  [default: {default}]"


def _first_sentence(text: str) -> str:
    return re.split("; |: `", text)[0].rstrip(".") + "."


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")

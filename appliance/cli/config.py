"""`config`: show the settings and where they come from, check a file, explain a setting, change a running one."""

from typing import Any

import click

from appliance.cli.output import note, print_json, print_table
from appliance.cli.verb import Call, VerbGroup, json_flag
from appliance.core.errors import UsageError
from appliance.core.setting_docs import setting_docs
from appliance.core.setting_keys import KEYS, SettingKey, unknown_key

file_flag = click.option("--config", "config_file", metavar="FILE", help="Settings file (TOML).")


@click.group(cls=VerbGroup)
def config() -> None:
    """Show, check, explain and change the settings."""


@config.command()
@file_flag
@click.option("--running", is_flag=True, help="What the running appliance uses.")
@click.option("--all", "everything", is_flag=True, help="Defaults too.")
@json_flag
@click.pass_obj
def show(call: Call, config_file: str | None, running: bool, everything: bool, as_json: bool) -> None:
    """Show the settings that a start would use now, and where each comes from."""
    if running:
        found = call.admin().get("config")
        print_json(found)
        return
    loaded = call.settings(config_file)
    for warning in loaded.warnings:
        note(f"warning: {warning}")
    entries = [(key, getattr(getattr(loaded.settings, key.group), key.name)) for key in KEYS.values()]
    if as_json:
        print_json({key.key: {"value": value, "source": loaded.sources[key.key]} for key, value in entries})
        return
    chosen = [(key, value) for key, value in entries if everything or loaded.sources[key.key] != "default"]
    if chosen:
        print_table(("SETTING", "VALUE", "FROM"), [(k.key, plain_value(v), loaded.sources[k.key]) for k, v in chosen])
    else:
        note("every setting has its default (--all shows them)")


@config.command("set")
@click.argument("assignments", nargs=-1, required=True, metavar="SETTING=VALUE...")
@json_flag
@click.pass_obj
def set_running(call: Call, assignments: tuple[str, ...], as_json: bool) -> None:
    """Change settings of the running appliance until its next start, such as router.mode=kv.

    What cannot change while it runs is refused, and then nothing is changed.
    """
    changes: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"{assignment!r} is no SETTING=VALUE")
        if name not in KEYS:
            raise unknown_key(name, KEYS, "config set")
        changes[name] = value
    changed = call.admin().patch("config", body=changes)
    if as_json:
        print_json(changed)
    elif changed:
        rows = [(name, plain_value(one["old"]), plain_value(one["new"])) for name, one in changed.items()]
        print_table(("SETTING", "OLD", "NEW"), rows)
        note("this holds until the next start; a settings file or a flag makes it last")
    else:
        note("nothing changed: the appliance uses these values already")


@config.command()
@click.argument("file", required=False)
@click.pass_obj
def check(call: Call, file: str | None) -> None:
    """Check a settings FILE (or the default one) together with the environment."""
    for warning in call.settings(file).warnings:
        note(f"warning: {warning}")
    click.echo("ok")


@config.command()
@click.argument("name", metavar="[SETTING]", required=False)
@json_flag
def explain(name: str | None, as_json: bool) -> None:
    """Explain a SETTING such as http.port, a group such as http, or all of them."""
    chosen = [key for key in KEYS.values() if name in (None, key.key, key.group)]
    if not chosen:
        raise unknown_key(str(name), KEYS, "config explain")
    if as_json:
        print_json([_facts(key) for key in chosen])
    elif name == chosen[0].key:
        _print_one(_facts(chosen[0]))
    else:
        print_table(
            ("SETTING", "DEFAULT", "MEANING"), [(k.key, plain_value(k.default), _facts(k)["meaning"]) for k in chosen]
        )


def _facts(key: SettingKey) -> dict[str, Any]:
    return {
        "setting": key.key,
        "meaning": setting_docs().get(key.key, ""),
        "default": key.default,
        "values": list(key.choices) or None,
        "environment": list(reversed(key.environment)),
        "file": f"[{key.group}] {key.name} = ...",
    }


def _print_one(facts: dict[str, Any]) -> None:
    click.echo(f"{facts['setting']}: {facts['meaning']}")
    click.echo(f"  default      {plain_value(facts['default'])}")
    if facts["values"]:
        click.echo(f"  values       {', '.join(facts['values'])}")
    click.echo(f"  environment  {', '.join(facts['environment'])}")
    click.echo(f"  file         {facts['file']}")


def plain_value(value: object) -> str:
    """A setting's value in words."""
    if isinstance(value, tuple | list):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

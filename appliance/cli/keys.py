"""`keys`: create, list and revoke API keys."""

from datetime import datetime

import click

from appliance.cli.output import note, print_json, print_table
from appliance.cli.verb import Call, VerbGroup, json_flag


@click.group(cls=VerbGroup)
def keys() -> None:
    """Create, list and revoke API keys. With the first key, clients need one."""


@keys.command()
@click.argument("name")
@json_flag
@click.pass_obj
def create(call: Call, name: str, as_json: bool) -> None:
    """Create a key called NAME and print it; it is stored hashed and cannot be shown again."""
    made = call.admin().post("keys", body={"name": name})
    if as_json:
        print_json(made)
        return
    click.echo(made["key"])
    note("This is shown once. Clients send it as: Authorization: Bearer KEY")


@keys.command("list")
@json_flag
@click.pass_obj
def list_keys(call: Call, as_json: bool) -> None:
    """List the names of the keys."""
    found = call.admin().get("keys")["items"]
    if as_json:
        print_json(found)
        return
    rows = [(key["name"], f"{datetime.fromtimestamp(key['created']):%Y-%m-%d %H:%M}") for key in found]
    if rows:
        print_table(("NAME", "CREATED"), rows)
    else:
        note("no keys: every client on this machine may use the appliance")


@keys.command()
@click.argument("name")
@click.pass_obj
def revoke(call: Call, name: str) -> None:
    """Revoke a key; requests that carry it are refused from now on."""
    call.admin().delete("keys", name)
    click.echo(f"key {name} revoked")

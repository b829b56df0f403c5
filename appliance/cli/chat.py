"""`chat`: talk to a served model in the terminal, or ask it one thing."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.chat_client import ChatClient, open_chat
from appliance.cli.models import fetch_for_use
from appliance.cli.output import is_interactive, note
from appliance.cli.temporary import temporary_appliance
from appliance.cli.verb import Call, Verb
from appliance.core.errors import NotRunning

LEAVE = ("/exit", "/quit", "/bye")


@click.command(cls=Verb)
@click.argument("model", required=False)
@click.option("--prompt", metavar="TEXT", help="Ask this one thing, print the answer, and end.")
@click.option("--system", metavar="TEXT", help="System message to begin with.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 always takes the likeliest token.")
@click.pass_obj
def chat(
    call: Call,
    model: str | None,
    prompt: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
) -> None:
    """Chat with MODEL on the running appliance. If none runs, a temporary one is started for the time of the chat."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    options = {"max_tokens": max_tokens, "temperature": temperature}
    with _appliance(call, model) as (admin, name), open_chat(admin, name, system=system, options=options) as client:
        if prompt is not None:
            _answer(client, prompt)
        else:
            _converse(client)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End in order, so that nothing temporary stays behind."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _appliance(call: Call, model: str | None) -> Iterator[tuple[AdminClient, str | None]]:
    """The running appliance and the model's name there; a temporary appliance serves what the name is a path of."""
    admin = call.admin()
    try:
        admin.get("status")
    except NotRunning:
        note("no appliance is running here; starting a temporary one")
        with temporary_appliance(fetch_for_use(call, model) if model else None) as temporary:
            yield temporary, None
    else:
        yield admin, model


def _converse(client: ChatClient) -> None:
    if is_interactive():
        note(f"Chatting with {client.model}. {LEAVE[0]} or Ctrl-D ends, /clear forgets, Ctrl-C stops an answer.")
    while True:
        try:
            text = input("> " if is_interactive() else "").strip()
        except EOFError:
            return
        if text in LEAVE:
            return
        if text == "/clear":
            client.forget()
        elif text:
            try:
                _answer(client, text)
            except KeyboardInterrupt:
                click.echo("\n[stopped]")


def _answer(client: ChatClient, text: str) -> None:
    with contextlib.closing(client.ask(text)) as pieces:
        for piece in pieces:
            click.echo(piece, nl=False)
    click.echo()

"""`top`: the running appliance, live, until q or Ctrl-C."""

import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.output import print_json
from appliance.cli.top_view import Sample, frame, render
from appliance.cli.verb import Call, Verb, json_flag

if TYPE_CHECKING:
    from rich.console import Console

PIPE_COLUMNS = 200


@click.command(cls=Verb)
@click.option(
    "--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once, print, and end; rates are those of one interval.")
@json_flag
@click.pass_obj
def top(call: Call, interval: float, once: bool, as_json: bool) -> None:
    """Show models, workers, front ends, GPUs and rates of the running appliance, live. Ends with q or Ctrl-C."""
    admin = call.admin()
    if not (once or as_json) and not sys.stdout.isatty():
        raise click.UsageError("top needs a terminal; --once and --json do not")
    before = _look(admin)
    if once or as_json:
        time.sleep(interval)
        facts = frame(before, _look(admin))
        if as_json:
            print_json(facts)
        else:
            _print(facts)
        return
    _watch(admin, before, interval)


def _look(admin: AdminClient) -> Sample:
    return Sample(admin.get("status"), time.monotonic())


def _watch(admin: AdminClient, before: Sample, interval: float) -> None:
    """Draw until the user has enough. Whole pictures are written at once, so that nothing flickers."""
    from rich.live import Live

    console = _console(None)
    picture = render(frame(before, before), *console.size)
    with (
        _keys() as wait_for_key,
        Live(picture, console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        live.refresh()
        while not wait_for_key(interval):
            now = _look(admin)
            live.update(render(frame(before, now), *console.size), refresh=True)
            before = now


def _print(facts: dict[str, object]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS
    console = _console(width)
    with console.capture() as captured:
        console.print(render(facts, width, None))
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _console(width: int | None) -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout, width=width, highlight=False)


class _Keys:
    """Waits for q on the terminal; without one it only waits."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self, seconds: float) -> bool:
        """Whether the user wants to leave, after at most that long. Ctrl-C raises `KeyboardInterrupt`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._descriptor is None:
                time.sleep(left)
            elif select.select([self._descriptor], [], [], left)[0]:
                pressed = os.read(self._descriptor, 64)
                if not pressed or pressed.lower() == b"q":
                    return True
        return False


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Keys come at once and are not shown; the terminal is as it was when the block is left."""
    if not os.isatty(0):
        yield _Keys(None)
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    try:
        tty.setcbreak(0)
        yield _Keys(0)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)

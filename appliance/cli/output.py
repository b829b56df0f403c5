"""Printing: JSON, and tables that fit the terminal. Imports rich only when a table is printed."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

GOOD, BAD, WAITING = "green", "red", "yellow"
COLOURS = {
    "ready": GOOD,
    "true": GOOD,
    "failed": BAD,
    "false": BAD,
    "backoff": WAITING,
    "starting": WAITING,
    "draining": WAITING,
    "stopping": WAITING,
    "cold": "dim",
}
PIPE_COLUMNS = 1000  # not a terminal: nothing is cut, `grep` and `cut` see everything


def print_json(data: Any) -> None:
    """Data as indented JSON on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, last_wraps: bool = True) -> None:
    """A table without borders; the last column takes what width is left and wraps there."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else PIPE_COLUMNS
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_edge=False)
    for index, name in enumerate(header):
        last = index == len(header) - 1
        table.add_column(name, overflow="fold" if last else "ellipsis", no_wrap=not (last and last_wraps))
    for row in rows:
        cells = ["-" if cell is None or cell == "" else str(cell) for cell in row]
        table.add_row(*(Text(cell, style=COLOURS.get(cell.lower(), "")) for cell in cells))
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_heading(text: str) -> None:
    """A bold line above a table."""
    click.echo(click.style(text, bold=True))


def note(text: str) -> None:
    """One line for the person at the terminal, on stderr, so that stdout stays clean."""
    click.echo(text, err=True)


def is_interactive() -> bool:
    """Whether a person sits at both ends."""
    return os.isatty(0) and sys.stdout.isatty()

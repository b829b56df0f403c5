"""Printing: JSON, and tables that fit the terminal."""

import json
import os
import shutil
import sys
import textwrap
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
}
EMPTY = "-"
GAP = 3  # between columns
DETAIL_COLUMNS = 50  # fewer than this make sentences hard to read
MIN_COLUMNS = 20
PIPE_COLUMNS = 10_000  # not a terminal: one line per row, for `grep` and `cut`


def print_json(data: Any) -> None:
    """Data as indented JSON on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, detail: bool = False) -> None:
    """A table without borders whose last column wraps at the terminal's edge.

    `detail`: the last column holds sentences; where it has no room beside the others, it goes below each row.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (header, *cells)) for column in range(len(header))]
    room = _columns() - sum(widths[:-1]) - GAP * len(widths[:-1])
    below = detail and room < min(widths[-1], DETAIL_COLUMNS)
    _print_row(header[:-1] if below else header, widths, room, bold=True)
    for row in cells:
        _print_row(row[:-1] if below else row, widths, room)
        if below and row[-1] != EMPTY:
            indent = " " * GAP
            click.echo(textwrap.fill(row[-1], _columns(), initial_indent=indent, subsequent_indent=indent))


def print_heading(text: str) -> None:
    """A bold line above a table."""
    click.echo(click.style(text, bold=True))


def note(text: str) -> None:
    """One line for the person at the terminal, on stderr, so that stdout stays clean."""
    click.echo(text, err=True)


def is_interactive() -> bool:
    """Whether a person sits at both ends."""
    return os.isatty(0) and sys.stdout.isatty()


def _print_row(row: Sequence[str], widths: Sequence[int], room: int, *, bold: bool = False) -> None:
    *first, last = zip(row, widths, strict=False)
    left = "".join(_styled(cell, bold=bold) + " " * (width + GAP - len(cell)) for cell, width in first)
    indent = sum(width + GAP for _, width in first)
    lines = (
        textwrap.wrap(last[0], max(room, MIN_COLUMNS), break_on_hyphens=False) if len(row) == len(widths) else [last[0]]
    )
    for number, line in enumerate(lines or [""]):
        click.echo((left if number == 0 else " " * indent) + _styled(line, bold=bold))


def _styled(cell: str, *, bold: bool) -> str:
    return click.style(cell, bold=bold or None, fg=COLOURS.get(cell.lower()))


def _text(cell: object) -> str:
    return EMPTY if cell is None or cell == "" else str(cell)


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS

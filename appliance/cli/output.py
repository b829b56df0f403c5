"""Printing: JSON, and tables that fit the terminal. `rich` is imported when a table is printed, not before."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

GOOD, BAD, WAITING = "green", "red", "yellow"
COLOURS = {
    "ready": GOOD,
    "true": GOOD,
    "ok": GOOD,
    "failed": BAD,
    "fail": BAD,
    "warn": WAITING,
    "false": BAD,
    "backoff": WAITING,
    "starting": WAITING,
    "draining": WAITING,
    "stopping": WAITING,
    "falling asleep": WAITING,
    "waking": WAITING,
    "loading adapters": WAITING,
}
EMPTY = "-"
GAP = 3  # between columns
DETAIL_COLUMNS = 50  # fewer than this make sentences hard to read
LAST_COLUMNS = 20  # what the last column keeps when the others are cut down to fit
PIPE_COLUMNS = 10_000  # not a terminal: one line per row, for `grep` and `cut`


def print_json(data: Any) -> None:
    """Data as indented JSON on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, detail: bool = False) -> None:
    """A table without borders whose last column wraps at the terminal's edge.

    `detail`: the last column holds sentences; where it has no room beside the others, it goes below each row.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = _widths([header, *cells])
    room = _columns() - sum(width + GAP for width in widths[:-1])
    if detail and room < min(widths[-1], DETAIL_COLUMNS):
        _print(_details_below(header, cells, widths[:-1]))
        return
    table = _table(header, _fitting(widths[:-1], _columns() - min(widths[-1], LAST_COLUMNS) - GAP))
    for row in cells:
        _add(table, row)
    _print([table])


def print_heading(text: str) -> None:
    """A bold line above a table."""
    click.echo(click.style(text, bold=True))


def note(text: str) -> None:
    """One line for the person at the terminal, on stderr, so that stdout stays clean."""
    click.echo(text, err=True)


def is_interactive() -> bool:
    """Whether a person sits at both ends."""
    return os.isatty(0) and sys.stdout.isatty()


def _details_below(header: Sequence[str], cells: list[list[str]], widths: list[int]) -> "list[RenderableType]":
    """One table per row, all of the same widths, so that the row's last cell can stand across the columns."""
    from rich.padding import Padding

    widths = _fitting(widths, _columns())
    parts: list[RenderableType] = [_table(header[:-1], widths)]
    for row in cells:
        parts.append(_add(_table(header[:-1], widths, show_header=False), row[:-1]))
        if row[-1] != EMPTY:
            parts.append(Padding(_styled(row[-1]), (0, 0, 0, GAP)))
    return parts


def _table(header: Sequence[str], widths: list[int], *, show_header: bool = True) -> "Table":
    """An empty table; the columns without a width take what is left."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=show_header)
    for index, name in enumerate(header):
        table.add_column(name, width=widths[index] if index < len(widths) else None, overflow="fold")
    return table


def _add(table: "Table", row: Sequence[str]) -> "Table":
    table.add_row(*map(_styled, row))
    return table


def _print(parts: "list[RenderableType]") -> None:
    from rich.console import Console

    # With a height: rich believes a width alone only where TERM is not "dumb".
    console = Console(file=sys.stdout, width=_columns(), height=25, highlight=False)
    with console.capture() as captured:
        console.print(*parts, sep="")
    for line in captured.get().splitlines():
        click.echo(line.rstrip())  # rich fills every line up to the edge


def _styled(cell: str) -> "RenderableType":
    from rich.text import Text

    return Text(cell, style=COLOURS.get(cell.lower(), ""))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The terminal columns that each column would like to have; wide characters count twice."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def _fitting(widths: list[int], room: int) -> list[int]:
    """The widths, with the widest cut until all of them and their gaps fit into `room`."""
    fitting = list(widths)
    while sum(fitting) + GAP * (len(fitting) - 1) > room and max(fitting) > 1:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting


def _text(cell: object) -> str:
    return EMPTY if cell is None or cell == "" else str(cell)


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS

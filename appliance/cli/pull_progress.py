"""How a pull is shown: a bar on a terminal, plain lines elsewhere, JSON lines for programs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from appliance.cli.output import note

if TYPE_CHECKING:
    from rich.progress import Progress

    from appliance.models.hub.progress import Meter

LINE_EVERY_S = 10.0  # in a log file
JSON_EVERY_S = 0.5


class Display(Protocol):
    """Shows one pull."""

    def on_progress(self, meter: "Meter") -> None:
        """After each piece of data: often."""
        ...

    def say(self, line: str) -> None:
        """One line."""
        ...


@contextmanager
def pull_display(name: str, *, as_json: bool) -> Iterator[Display]:
    """The display that suits where the output goes. Progress is on stderr, but JSON on stdout."""
    if as_json:
        yield _JsonLines(name)
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield _Bar(name, bar)
    else:
        yield _Lines(name)


def print_event(event: str, **members: object) -> None:
    """One JSON line on stdout, at once."""
    import json

    click.echo(json.dumps({"event": event, **members}, ensure_ascii=False))
    sys.stdout.flush()


class _Lines:
    def __init__(self, name: str) -> None:
        self._name, self._said_at = name, time.monotonic()

    def on_progress(self, meter: "Meter") -> None:
        now = time.monotonic()
        if now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            left = meter.left()
            note(f"{self._name}: {meter.fraction:.0%}" + (f", {left}" if left else ""))

    def say(self, line: str) -> None:
        note(line)


class _JsonLines:
    def __init__(self, name: str) -> None:
        self._name, self._said_at = name, 0.0

    def on_progress(self, meter: "Meter") -> None:
        now = time.monotonic()
        if now - self._said_at >= JSON_EVERY_S or meter.done >= meter.total:
            self._said_at = now
            print_event(
                "progress",
                model=self._name,
                done_bytes=meter.done,
                total_bytes=meter.total,
                bytes_per_s=meter.rate,
                eta_s=meter.eta_s,
            )

    def say(self, line: str) -> None:
        print_event("note", model=self._name, text=line)


class _Bar:
    def __init__(self, name: str, bar: "Progress") -> None:
        self._bar = bar
        self._task = bar.add_task(name, total=None, left="")

    def on_progress(self, meter: "Meter") -> None:
        self._bar.update(self._task, completed=meter.done, total=meter.total, left=meter.left())

    def say(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )

"""Finds workers by their unix sockets: looks for these, reads the cards, and tells when anything has changed."""

import logging
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from appliance.core.errors import ApplianceError, UsageError
from appliance.core.identity import WorkerId
from appliance.core.records import ModelRecord, WorkerRecord
from appliance.core.requests import ModelCard
from appliance.discovery.roster import Roster, SocketFile
from appliance.discovery.socket_places import SUFFIX, SocketPlaces, worker_of

log = logging.getLogger(__name__)

LOOK_S = 0.5
FIRST_LOOK_S = 2.0  # for the cards of workers that are there already; others come later

ReadCard = Callable[[Path], Awaitable[ModelCard]]
"""Asks the worker behind a socket for its card. Raises `ApplianceError`; cancelling leaves no connection behind."""
Tell = Callable[[list[WorkerRecord], list[ModelRecord]], None]
"""Takes all workers and models; called whenever anything about them has changed."""


def find_sockets(places: SocketPlaces) -> dict[WorkerId, SocketFile]:
    """The sockets that are there now, by worker. Raises `OSError` for a folder that cannot be read."""
    paths: Sequence[Path] = places.sockets
    if places.folder is not None:
        paths = [places.folder / name for name in sorted(os.listdir(places.folder)) if name.endswith(SUFFIX)]
    found = {}
    for path in paths:
        try:
            facts = path.stat()
        except OSError:  # it went while we looked, or is not there yet
            continue
        if stat.S_ISSOCK(facts.st_mode):
            found[worker_of(path)] = SocketFile(path, facts.st_ino, facts.st_mtime_ns)
    return found


class WorkerSockets:
    """Follows the sockets at some places for ever, and keeps a roster of the workers behind them."""

    def __init__(self, places: SocketPlaces, roster: Roster, read_card: ReadCard) -> None:
        self.places, self._roster, self._read_card = places, roster, read_card
        self._reading: set[SocketFile] = set()
        self._told: tuple[list[WorkerRecord], list[ModelRecord]] | None = None
        self._unreadable = ""
        self._wake = trio.Event()
        """Somebody knows more, and there is no need to wait for the next look."""

    async def run(self, tell: Tell, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look and tell until cancelled; `started` after the first look, with the cards that came soon.

        Raises `UsageError` for a folder that cannot be read at the start; later that is logged, and what is known
        stays: links tell of workers that end.
        """
        if fault := self._look():
            raise UsageError(f"cannot look for workers in {self.places}: {fault}")
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(FIRST_LOOK_S):
                async with trio.open_nursery() as first:
                    self._start_reading(first)
            self._tell(tell)
            task_status.started()
            while True:
                with trio.move_on_after(LOOK_S):
                    await self._wake.wait()
                self._wake = trio.Event()
                self._complain(self._look())
                self._start_reading(nursery)
                self._tell(tell)

    def lose(self, worker: WorkerId) -> None:
        """The link to a worker was lost: see at once whether it is there."""
        self._roster.lose(worker)
        self._wake.set()

    def drain(self, worker: WorkerId) -> None:
        """A worker said that it takes no more streams."""
        self._roster.drain(worker)
        self._wake.set()

    def _look(self) -> str:
        """Take in what lies there; what is wrong with the place, or nothing."""
        try:
            found = find_sockets(self.places)
        except OSError as error:
            return error.strerror or type(error).__name__
        self._roster.look(found, trio.current_time())
        return ""

    def _complain(self, fault: str) -> None:
        if fault and fault != self._unreadable:
            log.warning("cannot look for workers place=%s error=%s", self.places, fault)
        self._unreadable = fault

    def _tell(self, tell: Tell) -> None:
        picture = self._roster.workers(), self._roster.models()
        if picture != self._told:
            self._told = picture
            tell(*picture)

    def _start_reading(self, nursery: trio.Nursery) -> None:
        for worker, file in self._roster.unread():
            if file not in self._reading:
                self._reading.add(file)
                nursery.start_soon(self._read, worker, file)

    async def _read(self, worker: WorkerId, file: SocketFile) -> None:
        try:
            card = await self._read_card(file.path)
        except ApplianceError as error:
            if self._roster.fail(worker, file, error.message):
                log.warning("cannot use worker yet worker=%s error=%s", worker, error.message)
        else:
            self._roster.learn(worker, file, card, trio.current_time())
            self._wake.set()
        finally:
            self._reading.discard(file)

"""Which workers and models there are, by the sockets that were seen and the cards that were read. Pure.

A socket file says that a worker was there, its card who it is, its link how it is now. See DESIGN.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from appliance.core.identity import ModelName, WorkerId
from appliance.core.records import ModelRecord, WorkerPhase, WorkerRecord
from appliance.core.requests import ModelCard
from appliance.discovery.model_phase import can_generate

COMPONENT = "worker"
NOBODY = "none of its workers can be reached"
LEFT = "its last worker has left"


class SocketFile(NamedTuple):
    """One socket as it lies in the file system. A worker that starts anew makes a new one at the same path."""

    path: Path
    inode: int
    made_ns: int
    """Unix time at which its worker began to listen. Inode numbers alone are used again."""


@dataclass
class _Entry:
    file: SocketFile
    phase: WorkerPhase = "starting"
    card: ModelCard | None = None
    fault: str = ""


class Roster:
    """Sockets and what is known of the workers behind them. Every change may be told late or twice."""

    def __init__(self, *, keep_s: float, enforce_disagg: bool = False) -> None:
        """A model stays listed for `keep_s` after its last socket has gone, so that requests can wait for the next."""
        self._keep_s, self._enforce_disagg = keep_s, enforce_disagg
        self._entries: dict[WorkerId, _Entry] = {}
        self._created: dict[ModelName, int] = {}
        self._seen: dict[ModelName, float] = {}
        """When each model was last served by a socket that was there."""

    def look(self, found: Mapping[WorkerId, SocketFile], now: float) -> None:
        """Take in all sockets that are there now; `now` on any steady clock, in seconds."""
        for worker in [id_ for id_, entry in self._entries.items() if found.get(id_) != entry.file]:
            del self._entries[worker]
        for worker, file in found.items():
            self._entries.setdefault(worker, _Entry(file))
        self._seen |= dict.fromkeys(self._served(), now)
        for name in [name for name, seen in self._seen.items() if now - seen > self._keep_s]:
            del self._seen[name], self._created[name]

    def unread(self) -> list[tuple[WorkerId, SocketFile]]:
        """Sockets whose card is to be read: new ones, and those whose link was lost."""
        return [(id_, entry.file) for id_, entry in self._entries.items() if entry.phase in ("starting", "backoff")]

    def learn(self, worker: WorkerId, file: SocketFile, card: ModelCard, now: float) -> None:
        """The worker behind a socket has shown its card; an answer about a file that is gone is passed over."""
        if entry := self._current(worker, file):
            entry.card, entry.phase, entry.fault = card, "ready", ""
            self._created.setdefault(card.name, file.made_ns // 1_000_000_000)
            self._seen[card.name] = now

    def fail(self, worker: WorkerId, file: SocketFile, fault: str) -> bool:
        """The card could not be read. True where that is news."""
        entry = self._current(worker, file)
        if entry is None or entry.fault == fault:
            return False
        entry.fault = fault
        return True

    def lose(self, worker: WorkerId) -> None:
        """The link to a worker was lost: it counts for nothing until its card was read again."""
        if entry := self._entries.get(worker):
            entry.phase = "backoff" if entry.card is not None else "starting"

    def drain(self, worker: WorkerId) -> None:
        """A worker said that it takes no more streams."""
        entry = self._entries.get(worker)
        if entry is not None and entry.phase == "ready":
            entry.phase = "draining"

    def workers(self) -> list[WorkerRecord]:
        """All workers whose card is known."""
        return [
            WorkerRecord(
                id=id_,
                model=entry.card.name,
                phase=entry.phase,
                address=str(entry.file.path),
                component=COMPONENT,
                card=entry.card,
            )
            for id_, entry in self._entries.items()
            if entry.card is not None
        ]

    def models(self) -> list[ModelRecord]:
        """Models by the time at which their first worker was seen."""
        workers = self.workers()
        return [self._model(name, [one for one in workers if one.model == name]) for name in self._seen]

    def faults(self) -> dict[WorkerId, str]:
        """Why sockets are of no use now, one line each."""
        return {id_: entry.fault for id_, entry in self._entries.items() if entry.fault}

    def _current(self, worker: WorkerId, file: SocketFile) -> _Entry | None:
        entry = self._entries.get(worker)
        return entry if entry is not None and entry.file == file else None

    def _served(self) -> Iterable[ModelName]:
        return [entry.card.name for entry in self._entries.values() if entry.card is not None]

    def _model(self, name: ModelName, own: list[WorkerRecord]) -> ModelRecord:
        ready = can_generate([one for one in own if one.phase == "ready"], enforce_disagg=self._enforce_disagg)
        card = next((one.card for one in own), None)
        return ModelRecord(
            name=name,
            phase="ready" if ready else "cold",
            created=self._created[name],
            reason="" if ready else NOBODY if own else LEFT,
            context_length=None if card is None else card.context_length,
        )

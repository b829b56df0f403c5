"""Reader and writer over one SQLite connection inside one transaction, and the collector of its changes."""

from collections.abc import Callable
from typing import Any, Literal

from sqlite_utils import Database

from appliance.core.records import LedgerEvent, ObjectChange, StoredObject
from appliance.state.versions import (
    apply_put,
    apply_status,
    copy_object,
    decode_json,
    deletion,
    encode_json,
    stamp_event,
)

OBJECT_COLUMNS = "kind, name, api_version, metadata, spec, status, generation, resource_version, created_at"
EVENT_COLUMNS = "id, at, subject, action, reason, inputs"
AFTER_SLASH = "0"  # the character after "/": the end of the range of all subjects below a prefix


class SqliteReader:
    """`StateReader` on a connection in a transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, kind: str, name: str) -> StoredObject | None:
        """The object, None when there is none."""
        query = f"SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = ? AND name = ?"
        row = self._db.execute(query, [kind, name]).fetchone()
        return None if row is None else _object(row)

    def list_all(self, kind: str) -> list[StoredObject]:
        """All objects of a kind, by name."""
        query = f"SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = ? ORDER BY name"
        return [_object(row) for row in self._db.execute(query, [kind])]

    def events(self, subject: str | None = None, limit: int = 100) -> list[LedgerEvent]:
        """See `StateReader.events`."""
        where, values = _subject_filter(subject)
        query = f"SELECT {EVENT_COLUMNS} FROM events {where} ORDER BY id DESC LIMIT ?"
        return [_event(row) for row in self._db.execute(query, [*values, max(limit, 0)])]


class SqliteWriter(SqliteReader):
    """`StateWriter` on a connection in a write transaction. `changes` is for the watchers, once it is committed."""

    def __init__(self, db: Database, clock: Callable[[], float], event_rows: int) -> None:
        super().__init__(db)
        self.changes: list[ObjectChange] = []
        self._clock = clock
        self._event_rows = event_rows

    def put(self, obj: StoredObject) -> StoredObject:
        """See `StateWriter.put`."""
        stored = self.get(obj.kind, obj.name)
        made = apply_put(stored, obj, self._next_version(), self._clock())
        if made is not stored:
            self._keep(made, "MODIFIED" if stored else "ADDED")
        return made

    def put_status(self, kind: str, name: str, status: dict[str, object]) -> StoredObject | None:
        """See `StateWriter.put_status`."""
        stored = self.get(kind, name)
        if stored is None:
            return None
        made = apply_status(stored, status, self._next_version())
        if made is not stored:
            self._keep(made, "MODIFIED")
        return made

    def delete(self, kind: str, name: str) -> StoredObject | None:
        """See `StateWriter.delete`."""
        stored = self.get(kind, name)
        if stored is None:
            return None
        version = self._next_version()
        self._db.execute("DELETE FROM objects WHERE kind = ? AND name = ?", [kind, name])
        self._count(version)
        self.changes.append(deletion(stored, version))
        return stored

    def record(self, event: LedgerEvent) -> None:
        """See `StateWriter.record`."""
        event = stamp_event(event, 0, self._clock())
        values = [event.at, event.subject, event.action, event.reason, encode_json(event.inputs).decode()]
        insert = "INSERT INTO events (at, subject, action, reason, inputs) VALUES (?, ?, ?, ?, ?)"
        newest = self._db.execute(insert, values).lastrowid or 0
        self._db.execute("DELETE FROM events WHERE id <= ?", [newest - self._event_rows])

    def _next_version(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'resource_version'").fetchone()
        return int(row[0]) + 1

    def _count(self, version: int) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'resource_version'", [version])

    def _keep(self, obj: StoredObject, change: Literal["ADDED", "MODIFIED"]) -> None:
        documents = [encode_json(part).decode() for part in (obj.metadata, obj.spec, obj.status)]
        counters = [obj.generation, obj.resource_version, obj.created_at]
        upsert = f"INSERT OR REPLACE INTO objects ({OBJECT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(upsert, [obj.kind, obj.name, obj.api_version, *documents, *counters])
        self._count(obj.resource_version)
        self.changes.append(ObjectChange(change, copy_object(obj)))


def _subject_filter(subject: str | None) -> tuple[str, list[str]]:
    if subject is None:
        return "", []
    if not subject.endswith("/"):
        return "WHERE subject = ?", [subject]
    return "WHERE subject >= ? AND subject < ?", [subject, subject[:-1] + AFTER_SLASH]


def _object(row: tuple[Any, ...]) -> StoredObject:
    kind, name, api_version, metadata, spec, status, generation, resource_version, created_at = row
    return StoredObject(
        kind=kind,
        name=name,
        api_version=api_version,
        metadata=decode_json(metadata),
        spec=decode_json(spec),
        status=decode_json(status),
        generation=generation,
        resource_version=resource_version,
        created_at=created_at,
    )


def _event(row: tuple[Any, ...]) -> LedgerEvent:
    number, at, subject, action, reason, inputs = row
    return LedgerEvent(id=number, at=at, subject=subject, action=action, reason=reason, inputs=decode_json(inputs))

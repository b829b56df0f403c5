"""The state store in SQLite (WAL): one writer thread, a few readers with connections of their own.

For control facts only: a write costs a disk flush, so nothing on the request path may wait for one.
"""

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import trio
from sqlite_utils import Database

from appliance.core.errors import StateUnavailable
from appliance.core.ports import StateReader, StateWriter
from appliance.core.records import ObjectChange, StoredObject
from appliance.state.faults import mapped_faults
from appliance.state.schema import upgrade
from appliance.state.transaction import SqliteReader, SqliteWriter
from appliance.state.versions import EVENT_ROWS
from appliance.state.watching import WATCH_BUFFER, WatchHub

T = TypeVar("T")

READERS = 2  # snapshots at once; a slow ledger query must not hold up a reconcile
BUSY_S = 5.0  # longest wait for a lock that a foreign program (a backup, a shell) holds on the file

CLOSE_S = 10.0  # longest wait for running calls when the store is closed
LOG_LIMIT_BYTES = 4 << 20  # what a write-ahead log is cut back to after it was merged


@asynccontextmanager
async def open_store(
    path: Path,
    *,
    buffer: int = WATCH_BUFFER,
    event_rows: int = EVENT_ROWS,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator["SqliteStateStore"]:
    """Open or create the database, bring its schema up to date, and close it when the block is left.

    The caller holds the state dir's lock. Raises `StateUnavailable` with cause and cure. Cancelling waits for the
    call in progress, which SQLite bounds.
    """
    connections = await trio.to_thread.run_sync(_open_all, path, limiter=trio.CapacityLimiter(1))
    store = SqliteStateStore(path, connections, buffer=buffer, event_rows=event_rows, clock=clock)
    try:
        yield store
    finally:
        await store.close()


class SqliteStateStore:
    """`StateStore` over one database file. Made by `open_store`."""

    def __init__(
        self, path: Path, connections: list[Database], *, buffer: int, event_rows: int, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._writer, *readers = connections
        self._readers = readers
        self._hub = WatchHub(buffer)
        self._event_rows = event_rows
        self._clock = clock
        self._closed = False
        self._commit_order = trio.Lock()
        self._one_writer = trio.CapacityLimiter(1)
        self._few_readers = trio.CapacityLimiter(len(readers))

    async def read(self, query: Callable[[StateReader], T]) -> T:
        """See `StateStore.read`. Raises `StateUnavailable`."""
        self._check_open()
        return await trio.to_thread.run_sync(self._read, query, limiter=self._few_readers)

    async def write(self, change: Callable[[StateWriter], T]) -> T:
        """See `StateStore.write`. Raises `StateUnavailable`, after which nothing was written."""
        # The lock, not only the limiter: changes must reach the watchers in the order of their commits.
        async with self._commit_order:
            self._check_open()
            result, changes = await trio.to_thread.run_sync(self._write, change, limiter=self._one_writer)
            self._hub.publish(changes)
        return result

    @asynccontextmanager
    async def watch(self, kind: str) -> AsyncIterator[trio.MemoryReceiveChannel[ObjectChange]]:
        """See `StateStore.watch`. Raises `StateUnavailable` on entry."""
        with ExitStack() as stack:
            async with self._commit_order:  # nothing is committed between the list and the subscription
                present: list[StoredObject] = await self.read(lambda state: state.list_all(kind))
                changes = stack.enter_context(self._hub.subscribe(kind, present))
            yield changes

    async def close(self) -> None:
        """End every watch, let running calls end, close the file. Later calls raise `StateUnavailable`.

        Safe to call twice. Runs to its end even when cancelled.
        """
        self._closed = True
        self._hub.close()
        # shield: the connections must not outlive the block; past the deadline the write-ahead log is left for the
        # next start to merge, which is safe
        with trio.move_on_after(CLOSE_S, shield=True):
            async with self._commit_order, self._all_readers():
                await trio.to_thread.run_sync(self._close_all, limiter=self._one_writer)

    def _check_open(self) -> None:
        if self._closed:
            raise StateUnavailable("the state store is closed")

    def _read(self, query: Callable[[StateReader], T]) -> T:
        with mapped_faults(self._path, "read"):
            self._check_open()  # again: a read that waited for its turn may find the store closed
            db = self._readers.pop()
            try:
                db.conn.execute("BEGIN")
                return query(SqliteReader(db))
            finally:
                db.rollback()
                self._readers.append(db)

    def _write(self, change: Callable[[StateWriter], T]) -> tuple[T, list[ObjectChange]]:
        writer = SqliteWriter(self._writer, self._clock, self._event_rows)
        with mapped_faults(self._path, "write"):
            # IMMEDIATE: wait for a foreign lock now, not fail at the first write inside the transaction
            self._writer.conn.execute("BEGIN IMMEDIATE")
            try:
                result = change(writer)
                self._writer.conn.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise
        return result, writer.changes

    @asynccontextmanager
    async def _all_readers(self) -> AsyncIterator[None]:
        """Wait for running reads and keep others out."""
        turns = [object() for _ in range(READERS)]
        held: list[object] = []
        try:
            for turn in turns:
                await self._few_readers.acquire_on_behalf_of(turn)
                held.append(turn)
            yield
        finally:
            for turn in held:
                self._few_readers.release_on_behalf_of(turn)

    def _close_all(self) -> None:
        while self._readers:
            self._readers.pop().close()
        self._writer.close()  # last: closing the last connection merges the write-ahead log


def _open_all(path: Path) -> list[Database]:
    """The writer's connection and the readers', on a checked file with the newest schema."""
    with ExitStack() as stack, mapped_faults(path, "open"):
        _create_private(path)
        writer = _connect(stack, path)
        _check_whole(writer, path)
        writer.enable_wal()
        # FULL: an acknowledged write (a revoked key, an applied graph) is there after a power cut too
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
        upgrade(writer, path)
        readers = [_connect(stack, path) for _ in range(READERS)]
        for reader in readers:
            reader.execute("PRAGMA query_only = ON")
        stack.pop_all()
        return [writer, *readers]


def _create_private(path: Path) -> None:
    """The folder and the file, for the owner only; SQLite gives its side files the mode of the database."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateUnavailable(f"cannot open the state database {path}: {error.strerror}") from error


def _connect(stack: ExitStack, path: Path) -> Database:
    # check_same_thread off: trio's threads come and go; the limiters see to it that only one uses a connection
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    stack.callback(connection.close)
    return Database(connection, execute_plugins=False)


def _check_whole(db: Database, path: Path) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StateUnavailable(
            f"cannot open the state database {path}: it is damaged; move the file away or put back a copy of it"
        )

"""What can go wrong with the database file, as one line a user can act on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.core.errors import StateUnavailable

CURES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_READONLY: "it is read-only; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_PERM: "it may not be accessed; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened or created; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_BUSY: "another program holds it locked; close that program",
    sqlite3.SQLITE_LOCKED: "another program holds it locked; close that program",
    sqlite3.SQLITE_NOTADB: "it is not a database; move the file away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move the file away or put back a copy of it",
    sqlite3.SQLITE_IOERR: "the disk reports an error or is full",
}
PRIMARY_CODE = 0xFF  # an extended result code holds its primary one in the low byte


@contextmanager
def mapped_faults(path: Path, act: str) -> Iterator[None]:
    """Raise `StateUnavailable` for SQLite's own errors. `act`: what cannot be done, a verb."""
    try:
        yield
    except sqlite3.Error as error:
        raise StateUnavailable(f"cannot {act} the state database {path}: {explain(error)}") from error


def explain(error: sqlite3.Error) -> str:
    """Cause and cure of an SQLite error, in words."""
    code = getattr(error, "sqlite_errorcode", None)
    cure = None if code is None else CURES.get(code & PRIMARY_CODE)
    return cure or str(error)

"""Tables of the state database and their migrations: forward only, never edited once released.

A migration of an existing file runs after a copy of it was made; a file with a migration that this
program does not know is refused by that migration's name.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database, Migrations

from appliance.core.errors import StateUnavailable

MIGRATIONS = Migrations("appliance")


@MIGRATIONS()
def m0001_objects_events_meta(db: Database) -> None:
    """Objects with versions, the ledger, and the store's counters."""
    db.execute("""
        CREATE TABLE objects (
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            api_version TEXT NOT NULL,
            metadata TEXT NOT NULL,
            spec TEXT NOT NULL,
            status TEXT NOT NULL,
            generation INTEGER NOT NULL,
            resource_version INTEGER NOT NULL,
            created_at REAL NOT NULL,
            PRIMARY KEY (kind, name)
        ) WITHOUT ROWID
    """)
    # AUTOINCREMENT: the number of a pruned event is never given again
    db.execute("""
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            subject TEXT NOT NULL,
            action TEXT NOT NULL,
            reason TEXT NOT NULL,
            inputs TEXT NOT NULL
        )
    """)
    db.execute("CREATE INDEX events_by_subject ON events (subject, id)")
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID")
    db.execute("INSERT INTO meta (key, value) VALUES ('resource_version', 0)")


def upgrade(db: Database, path: Path, migrations: Migrations = MIGRATIONS) -> Path | None:
    """Bring the file to the newest schema; returns the copy that was made first, None when none was needed.

    Raises `StateUnavailable` for a file of a newer version; SQLite errors pass through.
    """
    applied = [migration.name for migration in migrations.applied(db)]
    pending = [migration.name for migration in migrations.pending(db)]
    _refuse_newer(path, applied, migrations)
    if not pending:
        return None
    copy = _copy_file(db, path, applied[-1]) if applied else None
    migrations.apply(db)
    return copy


def applied_migrations(connection: sqlite3.Connection) -> list[str]:
    """Names of the migrations that a database has, in order."""
    return [migration.name for migration in MIGRATIONS.applied(Database(connection, execute_plugins=False))]


def unknown_migrations(applied: list[str], migrations: Migrations = MIGRATIONS) -> list[str]:
    """Those that this program does not know: a newer one has made them."""
    known = _names(migrations)
    return [name for name in applied if name not in known]


def _refuse_newer(path: Path, applied: list[str], migrations: Migrations) -> None:
    unknown = unknown_migrations(applied, migrations)
    if unknown:
        raise StateUnavailable(
            f"cannot open the state database {path}: it was written by a newer version of the appliance "
            f"(it has {unknown[-1]}); run that version, or put back a copy from before the upgrade"
        )


def _names(migrations: Migrations) -> set[str]:
    # The set has no public list of its members: all of them are pending in an empty database.
    with closing(sqlite3.connect(":memory:")) as empty:
        return {migration.name for migration in migrations.pending(Database(empty, execute_plugins=False))}


def _copy_file(db: Database, path: Path, last_applied: str) -> Path:
    """A consistent copy beside the file, complete or absent, named after the schema it holds."""
    copy = path.with_name(f"{path.name}.{last_applied}.copy")
    draft = copy.with_name(copy.name + ".part")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft)) as target:
        db.conn.backup(target)
    os.chmod(draft, 0o600)
    os.replace(draft, copy)
    return copy

"""Migrations: a copy first, all or nothing, and a newer file is refused by name."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from appliance.core.errors import StateUnavailable
from appliance.state.schema import MIGRATIONS, m0001_objects_events_meta, upgrade
from appliance.state.sqlite import open_store


def newer(*, fails: bool = False) -> Migrations:
    """The set of a later version of the program."""
    later = Migrations("appliance")
    later()(m0001_objects_events_meta)

    @later()
    def m0002_notes(db: Database) -> None:
        db.execute("CREATE TABLE notes (x)")
        if fails:
            raise RuntimeError("half way")

    return later


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "appliance.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with closing(sqlite3.connect(path)) as connection:
        yield Database(connection, execute_plugins=False)


def test_new_file_gets_the_schema_without_a_copy(db: Database, path: Path) -> None:
    assert upgrade(db, path) is None
    assert {"objects", "events", "meta"} <= set(db.table_names())
    assert upgrade(db, path) is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_existing_file_is_copied_before_a_migration(db: Database, path: Path) -> None:
    upgrade(db, path)
    db.execute("UPDATE meta SET value = 42")
    copy = upgrade(db, path, newer())
    assert copy == path.with_name("appliance.db.m0001_objects_events_meta.copy")
    assert "notes" in db.table_names()
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT value FROM meta").fetchone() == (42,)
        assert kept.execute("SELECT name FROM sqlite_master WHERE name = 'notes'").fetchone() is None


def test_migration_that_fails_leaves_the_file_as_it_was(db: Database, path: Path) -> None:
    upgrade(db, path)
    with pytest.raises(RuntimeError):
        upgrade(db, path, newer(fails=True))
    assert "notes" not in db.table_names()
    assert upgrade(db, path) is None


async def test_newer_file_is_refused_by_the_migrations_name(db: Database, path: Path) -> None:
    upgrade(db, path, newer())
    with pytest.raises(StateUnavailable, match=r"newer version of the appliance \(it has m0002_notes\)"):
        async with open_store(path):
            pass


def test_released_migrations_are_never_edited() -> None:
    with closing(sqlite3.connect(":memory:")) as empty:
        names = [migration.name for migration in MIGRATIONS.pending(Database(empty, execute_plugins=False))]
    assert names == ["m0001_objects_events_meta"]

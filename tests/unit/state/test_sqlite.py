"""The database file: modes, faults as one clear error, life-cycle."""

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from appliance.core.errors import StateUnavailable
from appliance.core.ports import StateWriter
from appliance.core.records import StoredObject
from appliance.state.faults import mapped_faults
from appliance.state.sqlite import open_store

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "appliance.db"


def put_many(state: StateWriter, count: int) -> None:
    for n in range(count):
        state.put(StoredObject(kind="Thing", name=f"t{n:03}", spec={"text": "x" * 500}))


async def fill(path: Path, count: int = 1) -> None:
    async with open_store(path) as store:
        await store.write(lambda state: put_many(state, count))


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the content of the file, which is made when there is none."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(change(path.read_bytes() if path.exists() else b""))


async def refusal(path: Path) -> str:
    with pytest.raises(StateUnavailable) as caught:
        async with open_store(path):
            pass
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


async def test_content_outlives_the_store_and_the_log_is_merged(path: Path) -> None:
    await fill(path, 3)
    assert [file.name for file in path.parent.iterdir()] == ["appliance.db"]
    async with open_store(path) as store:
        assert len(await store.read(lambda state: state.list_all("Thing"))) == 3


async def test_file_and_folder_are_for_the_owner_only(path: Path) -> None:
    async with open_store(path) as store:
        await store.write(lambda state: state.put(StoredObject(kind="K", name="n", spec={})))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("appliance.db", "appliance.db-wal", "appliance.db-shm"), 384)
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_file_that_is_no_database_is_refused(path: Path) -> None:
    spoil(path, lambda _: b"something else entirely, and long enough to be read as a header " * 20)
    assert "it is not a database; move the file away" in await refusal(path)


async def test_damaged_file_is_refused(path: Path) -> None:
    await fill(path, 200)
    spoil(path, lambda content: content[:40_000] + b"\xff" * 8192 + content[48_192:])
    assert "it is damaged" in await refusal(path)


async def test_cut_off_file_is_refused(path: Path) -> None:
    await fill(path, 200)
    spoil(path, lambda content: content[: len(content) // 2])
    assert "it is damaged" in await refusal(path)


async def test_empty_file_is_a_new_store(path: Path) -> None:
    spoil(path, lambda content: content)
    await fill(path)


async def test_folder_in_place_of_the_file_and_unwritable_folder_are_refused(tmp_path: Path) -> None:
    assert "Is a directory" in await refusal(tmp_path)
    await refusal(Path("/proc/no-such-folder/appliance.db"))


async def test_foreign_lock_is_waited_for_then_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.state.sqlite.BUSY_S", 0.1)
    async with open_store(path) as store:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateUnavailable, match="another program holds it locked"):
                await store.write(lambda state: state.list_all("Thing"))
            assert await store.read(lambda state: state.list_all("Thing")) == []
            other.rollback()
        await store.write(lambda state: state.put(StoredObject(kind="Thing", name="a", spec={})))


def test_read_only_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
    read_only = pytest.raises(StateUnavailable, match=r"cannot write the state database .*: it is read-only")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db, read_only, mapped_faults(path, "write"):
        db.execute("INSERT INTO t VALUES (1)")


FULL_DISK = """
import sys
from pathlib import Path
import resource, signal, trio
from appliance.core.errors import StateUnavailable
from appliance.core.records import StoredObject
from appliance.state.sqlite import open_store

def put(name, size):
    return lambda state: [state.put(StoredObject(kind="T", name=name, spec={"x": "x" * size})), None][1]

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        await store.write(put("before", 10))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
        try:
            await store.write(put("big", 1_000_000))
        except StateUnavailable as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.write(put("after", 10))
        print([obj.name for obj in await store.read(lambda state: state.list_all("T"))])
trio.run(main)
"""


def test_file_that_cannot_grow_fails_the_write_and_nothing_else(path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    error, names = done.stdout.splitlines()
    assert error == f"cannot write the state database {path}: the disk reports an error or is full"
    assert names == "['after', 'before']"


def test_full_disk_is_named(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA max_page_count = 3")
        full = pytest.raises(StateUnavailable, match="the disk is full; free some space")
        with full, mapped_faults(path, "write"):
            db.execute("INSERT INTO t VALUES (?)", ["x" * 100_000])


async def test_close_waits_for_running_calls_and_turns_others_away(path: Path) -> None:
    outcomes: list[str] = []

    async def call(write: bool) -> None:
        try:
            if write:
                await store.write(lambda state: trio.from_thread.run(trio.sleep, 0.02))
            else:
                await store.read(lambda state: trio.from_thread.run(trio.sleep, 0.02))
            outcomes.append("done")
        except StateUnavailable:
            outcomes.append("closed")

    async with open_store(path) as store, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(call, number % 2 == 0)
        await trio.sleep(0.01)
        await store.close()
    assert outcomes.count("done") == 3, "one writer and two readers were under way"
    assert outcomes.count("closed") == 5


async def test_cancelled_block_closes_the_file(path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_store(path) as store:
            await store.write(lambda state: state.put(StoredObject(kind="K", name="n", spec={})))
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert [file.name for file in path.parent.iterdir()] == ["appliance.db"]
    with pytest.raises(StateUnavailable, match="closed"):
        await store.read(lambda state: state.list_all("K"))

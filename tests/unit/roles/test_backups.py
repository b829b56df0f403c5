"""Backups as a stream: whole, broken off by a fault, given up by their reader."""

import io
import os
from pathlib import Path

import pytest
import trio

from appliance.core.errors import BackupFailed
from appliance.core.records import LedgerEvent
from appliance.roles.node.backups import Backups
from appliance.state.restore import check_backup
from appliance.state.sqlite import open_store


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    async with open_store(tmp_path / "state/appliance.db"):
        pass
    return tmp_path / "state"


def add_model(state: Path, size: int) -> None:
    (state / "models").mkdir()
    (state / "models/m.gguf").write_bytes(os.urandom(size))


def leftovers(state: Path) -> list[Path]:
    return list(state.glob(".backup-*"))


async def test_a_whole_backup_is_in_the_ledger(state: Path, tmp_path: Path) -> None:
    events: list[LedgerEvent] = []
    packed = io.BytesIO()
    async with Backups(state, events.append).backup(False) as blocks:
        async for block in blocks:
            packed.write(block)
    archive = trio.Path(tmp_path / "a")
    await archive.write_bytes(packed.getvalue())
    assert [one.name for one in check_backup(Path(archive)).files] == ["appliance.db"]
    assert [event.action for event in events] == ["backup"]


async def test_a_fault_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    events: list[LedgerEvent] = []
    async with Backups(tmp_path / "empty", events.append).backup(False) as blocks:
        with pytest.raises(BackupFailed, match=r"holds no appliance\.db"):
            async for _ in blocks:
                pass
    assert events == []


async def test_a_reader_that_goes_ends_the_packing(state: Path) -> None:
    add_model(state, 8_000_000)
    events: list[LedgerEvent] = []
    with trio.fail_after(10):
        async with Backups(state, events.append).backup(True) as blocks:
            assert await anext(aiter(blocks))
    assert (events, leftovers(state)) == ([], [])


async def test_a_cancelled_reader_ends_the_packing(state: Path) -> None:
    add_model(state, 8_000_000)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                async with Backups(state, lambda _: None).backup(True) as blocks:
                    await anext(aiter(blocks))
                    nursery.cancel_scope.cancel()
                    await trio.sleep_forever()

            nursery.start_soon(read)
    assert leftovers(state) == []

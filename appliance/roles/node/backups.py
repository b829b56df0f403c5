"""Backups of a running node: a thread packs, the admin API sends what it gets, block by block."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import structlog
import trio

from appliance import __version__
from appliance.core.errors import ApplianceError, BackupFailed
from appliance.core.records import LedgerEvent
from appliance.state.backup import write_backup

log = structlog.get_logger(__name__)

BLOCKS_AHEAD = 4  # packed blocks that wait for a slow reader


class Backups:
    """Makes backups of one state dir, one at a time."""

    def __init__(self, state_dir: Path, note: Callable[[LedgerEvent], None]) -> None:
        self._state_dir, self._note = state_dir, note
        self._one_packer = trio.CapacityLimiter(1)

    @asynccontextmanager
    async def backup(self, with_models: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        """The archive in blocks. Leaving the block gives it up; reading raises `BackupFailed` when packing fails."""
        send, receive = trio.open_memory_channel[bytes](BLOCKS_AHEAD)
        packing = _Packing(self._state_dir, send, with_models)
        async with trio.open_nursery() as nursery, receive:
            nursery.start_soon(packing.run, self._one_packer)
            async with aclosing(packing.blocks(receive)) as blocks:
                yield blocks
            await receive.aclose()  # a packer that still runs ends at its next block
        if packing.done:
            what = "with models" if with_models else "without models"
            self._note(LedgerEvent(subject="appliance", action="backup", reason=f"asked for by a user, {what}"))


class _Packing:
    """One archive that a thread writes into a channel."""

    def __init__(self, state_dir: Path, send: trio.MemorySendChannel[bytes], with_models: bool) -> None:
        self._state_dir, self._send, self._with_models = state_dir, send, with_models
        self._failure = ""
        self.done = False

    async def run(self, limiter: trio.CapacityLimiter) -> None:
        async with self._send:
            try:
                await trio.to_thread.run_sync(self._pack, limiter=limiter)
                self.done = True
            except trio.BrokenResourceError:
                self._failure = "the reader went away"
            except (ApplianceError, OSError) as error:
                self._failure = str(error)
                log.error("cannot make a backup", reason=self._failure)

    async def blocks(self, receive: trio.MemoryReceiveChannel[bytes]) -> AsyncGenerator[bytes, None]:
        async for block in receive:
            yield block
        if self._failure:
            raise BackupFailed(f"cannot make a backup: {self._failure}")

    def _pack(self) -> None:
        write_backup(self._state_dir, self, with_models=self._with_models, version=__version__)

    def write(self, data: bytes) -> None:
        """Called by the packing thread; waits for the reader."""
        if data:
            trio.from_thread.run(self._send.send, data)

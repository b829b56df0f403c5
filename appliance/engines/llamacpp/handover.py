"""Handing a slot's keys and values from one worker to another, by llama.cpp's saving and restoring of slots.

Nothing here fails a request: what cannot be saved or restored is computed by the decode worker.
"""

import logging
import time
from typing import Any

import trio

from appliance.core.errors import ApplianceError
from appliance.engines.llamacpp.kv_files import SWEEP_S, KvFiles
from appliance.engines.llamacpp.leases import Lease, SlotPool
from appliance.engines.llamacpp.server import LlamaServer
from appliance.engines.llamacpp.slots import common_prefix

log = logging.getLogger(__name__)

KEY = "llamacpp"
"""Member of `KvTransfer.params` that is ours."""


class Handovers:
    """Slots of one worker on their way out and in."""

    def __init__(self, files: KvFiles, server: LlamaServer, threads: trio.CapacityLimiter) -> None:
        """`threads` has one for each slot."""
        self._files, self._server, self._threads = files, server, threads
        self._closed = trio.Event()

    async def run(self) -> None:
        """Sweep the folder until `close`."""
        while not self._closed.is_set():
            with trio.move_on_after(SWEEP_S):
                await self._closed.wait()
            await trio.to_thread.run_sync(self._files.sweep, abandon_on_cancel=True)

    async def save(self, slot: int) -> dict[str, Any] | None:
        """Write a held slot into a file; what the decode worker needs to fetch it, None when that did not work.

        Cancelling waits until the engine has written, and leaves no file.
        """
        name = self._files.new_name()
        begun = time.perf_counter()
        try:
            # Not abandoned on cancel: the slot is ours only until we let go of it.
            tokens, size = await trio.to_thread.run_sync(self._server.save_slot, slot, name, limiter=self._threads)
            await trio.lowlevel.checkpoint_if_cancelled()
        except ApplianceError as error:
            self._files.remove(name)
            log.warning("a KV cache is not handed over: %s", error.message)
            return None
        except BaseException:
            self._files.remove(name)
            raise
        log.debug("KV cache saved tokens=%d bytes=%d ms=%.1f", tokens, size, (time.perf_counter() - begun) * 1e3)
        return {KEY: {"file": name, "tokens": tokens, "model": self._files.model}}

    async def restore(self, params: dict[str, Any], lease: Lease, slots: SlotPool, prompt: list[int]) -> None:
        """Fill a held slot from a file, unless it has that much of the prompt already, and remove the file."""
        offer = params.get(KEY)
        if not isinstance(offer, dict):
            return
        name, tokens = offer.get("file"), offer.get("tokens")
        try:
            if offer.get("model") != self._files.model or not isinstance(tokens, int) or not 0 < tokens <= len(prompt):
                log.warning("a KV cache of another model or prompt is not used")
            elif not self._files.has(name):
                log.warning("a KV cache is not there any more")
            elif common_prefix(slots.table.content(lease.slot), prompt) < tokens:
                await self._restore(str(name), tokens, lease, slots, prompt)
        finally:
            self._files.remove(name)

    async def _restore(self, name: str, tokens: int, lease: Lease, slots: SlotPool, prompt: list[int]) -> None:
        begun = time.perf_counter()
        restored = 0
        try:
            # Not abandoned on cancel: as in `save`.
            restored = await trio.to_thread.run_sync(self._server.restore_slot, lease.slot, name, limiter=self._threads)
        except ApplianceError as error:
            log.warning("a KV cache is not restored: %s", error.message)
        held = tokens if restored == tokens else 0  # a restore that fails leaves the slot empty
        slots.report_replaced(lease.slot, prompt[:held])
        lease.content = prompt[:held]
        log.debug("KV cache restored tokens=%d ms=%.1f", held, (time.perf_counter() - begun) * 1e3)

    def close(self) -> None:
        """Remove the files of this worker. Safe to call twice."""
        self._closed.set()
        self._files.close()

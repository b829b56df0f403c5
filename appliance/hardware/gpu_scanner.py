"""Scans of the GPUs for trio code: in a thread of its own, with a deadline, never two at a time."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import trio

from appliance.core.gpus import Gpu, GpuFault, GpuHealth, GpuScan
from appliance.hardware.driver_files import read_driver_files
from appliance.hardware.gpu_facts import GpuReader
from appliance.hardware.gpu_faults import explain, no_gpu_listed, too_slow
from appliance.hardware.nvml import Nvml, NvmlFailed

CALL_S = 10.0  # eight GPUs answer in well under one; waking GPUs without persistence mode takes some


class NvmlScanner:
    """`GpuPort` over NVML. The driver is opened by the first scan and stays open while it works."""

    def __init__(
        self,
        *,
        library: str | None = None,
        sku: str | None = None,
        call_s: float = CALL_S,
        root: Path = Path("/"),
    ) -> None:
        """`library`: path of NVML where the loader does not look; `sku`: what every GPU shall count as."""
        self._library, self._sku, self._call_s, self._root = library, sku, call_s, root
        self._thread = trio.CapacityLimiter(1)
        self._reader: GpuReader | None = None
        self._nvml: Nvml | None = None
        self._known: dict[str, Gpu] = {}
        self._since: float | None = None
        """trio time at which the scan began that has not come back."""

    async def scan(self) -> GpuScan:
        """See `GpuPort.scan`. While an earlier call hangs, the answer is at once that it does."""
        since = self._since
        if since is not None:
            await trio.lowlevel.checkpoint()  # meanwhile the call may come back
            return too_slow(trio.current_time() - since)
        self._since = trio.current_time()
        outcome: list[GpuScan] = []
        with trio.move_on_after(self._call_s):
            await trio.to_thread.run_sync(
                self._work, outcome, trio.lowlevel.current_trio_token(), abandon_on_cancel=True, limiter=self._thread
            )
        return outcome[0] if outcome else too_slow(self._call_s)

    def _work(self, outcome: list[GpuScan], token: trio.lowlevel.TrioToken) -> None:
        """In the thread, which may be abandoned: then its end is told all the same, so that scans go on."""
        try:
            outcome.append(self._scan_now())
        finally:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._end)

    def _end(self) -> None:
        self._since = None

    def _scan_now(self) -> GpuScan:
        try:
            if self._reader is None:
                self._nvml = Nvml(self._library)
                devices = self._root / "sys/bus/pci/devices"
                self._reader = GpuReader(self._nvml, sku=self._sku, known=self._known, pci_devices=devices)
            scan = self._reader.read()
        except NvmlFailed as failure:
            self._close()
            return explain(failure, read_driver_files(self._root))
        except Exception as error:  # what a driver answers that its bindings do not expect must not end the appliance
            self._close()
            return explain(
                NvmlFailed(GpuFault.BROKEN, f"{type(error).__name__}: {error}"), read_driver_files(self._root)
            )
        self._known = self._reader.known
        if any(gpu.health is not GpuHealth.OK for gpu in scan.gpus):
            self._close()  # while the driver is held open a GPU cannot be reset; a new look also sees that it was
        if not scan.gpus:
            empty = no_gpu_listed(read_driver_files(self._root))
            return replace(empty, driver_version=scan.driver_version, cuda_version=scan.cuda_version)
        return scan

    def _close(self) -> None:
        if self._nvml is not None:
            self._nvml.close()
        self._nvml = self._reader = None

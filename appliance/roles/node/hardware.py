"""The GPUs of this node: looked at every few seconds, promised to workers, taken from none but lost ones."""

from collections.abc import Callable
from functools import partial

import structlog
import trio

from appliance.core.gpus import GpuPort
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.core.settings import HardwareSettings
from appliance.hardware.gpu_owners import session_of
from appliance.hardware.gpu_scanner import NvmlScanner
from appliance.roles.node.gpu_demand import gpu_demand
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_placing import LedgerPlacing
from appliance.supervision.gpu_sight import has_no_gpu
from appliance.supervision.supervisor import Supervisor

log = structlog.get_logger(__name__)

RELEASE_LOOK_S = 0.25  # between looks while a worker's memory is not known to be free
REMEMBERED = 256  # leaders of worker sessions, also of ended ones: their children may still hold memory
ALARMS = {
    "fault": "GPUs cannot be used, workers that need none run on the CPU",
    "lose": "a GPU is lost",
    "leak": "memory of a GPU was not given back",
}


class NodeHardware:
    """Ledger and placing of one node; `run` keeps the ledger true. On a machine without GPU it ends after one look."""

    def __init__(
        self,
        settings: HardwareSettings,
        record: Callable[[LedgerEvent], None],
        weights_of: Callable[[str], int],
        *,
        visible: str | None = None,
        source: GpuPort | None = None,
    ) -> None:
        """`weights_of`: bytes of a model by name or path; `visible`: our own CUDA_VISIBLE_DEVICES."""
        self._settings, self._record = settings, record
        self._source = source or NvmlScanner(
            library=settings.nvml_library, sku=settings.gpu_sku, call_s=settings.call_s
        )
        self.ledger = GpuLedger(visible=visible, release_s=settings.release_s)
        self.placing = LedgerPlacing(self.ledger, partial(gpu_demand, weights_of=weights_of), record, self._tell)
        self._supervisor: Supervisor | None = None
        self._leaders: dict[int, WorkerId] = {}
        self._ended = trio.Event()
        """A worker that held GPUs has ended since the last look."""

    async def run(self, supervisor: Supervisor) -> None:
        """Look for ever, or until it is known that there is nothing to see."""
        self._supervisor = supervisor
        while True:
            await self._look(supervisor)
            if has_no_gpu(self.ledger.scan):
                return
            await self._pause()

    async def _pause(self) -> None:
        """Until the next look: soon while memory is to be given back, since the next load waits to see that."""
        self._ended = trio.Event()
        if self.ledger.has_open_releases:
            await trio.sleep(min(self._settings.scan_s, RELEASE_LOOK_S))
            return
        with trio.move_on_after(self._settings.scan_s):
            await self._ended.wait()

    async def _look(self, supervisor: Supervisor) -> None:
        number, before = self.ledger.begin_look(), self._facts()
        scan = await self._source.scan()
        self._remember(supervisor)
        for event in self.ledger.observe(scan, number, self._owner_of, trio.current_time()):
            if event.action in ALARMS:
                log.warning(ALARMS[event.action], subject=event.subject, reason=event.reason)
            self._record(event)
        for worker, reason in self.ledger.lost().items():
            supervisor.on_gpu_lost(worker, reason)
        if self._facts() != before:
            supervisor.reconsider()

    def _facts(self) -> object:
        """What workers that wait for GPUs look at."""
        ledger = self.ledger
        return ledger.scan is None, ledger.fault, ledger.places(), ledger.has_open_releases

    def _tell(self) -> None:
        if self.ledger.has_open_releases:
            self._ended.set()
        if self._supervisor is not None:
            self._supervisor.reconsider()

    def _remember(self, supervisor: Supervisor) -> None:
        self._leaders |= {view.pid: view.id for view in supervisor.views() if view.pid is not None}
        for pid in list(self._leaders)[:-REMEMBERED]:
            del self._leaders[pid]

    def _owner_of(self, pid: int) -> WorkerId | None:
        session = session_of(pid)
        return self._leaders.get(session) if session is not None else None

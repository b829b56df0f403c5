"""GPUs as a worker task asks for them: claimed before a start, loaded when it serves, released at its end."""

from collections.abc import Callable
from typing import Protocol

from appliance.core.errors import ApplianceError
from appliance.core.gpus import GIB, GpuDemand, GpuGrant
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.supervision.environment import gpu_environment
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_places import NoRoom, choose
from appliance.supervision.gpu_releases import UNSEEN
from appliance.supervision.gpu_sight import has_no_gpu


class GpuPlacing(Protocol):
    """What supervision knows of GPUs. All calls return at once."""

    def claim(self, instance: ComponentInstance, worker: WorkerId) -> str:
        """Take the GPUs that an instance needs. Empty: it may start now; else what it must wait for.

        Raises NoRoom while there are none for it.
        """
        ...

    def has_room(self, instance: ComponentInstance) -> bool:
        """Whether a claim for one more worker of the instance would be granted now."""
        ...

    def loaded(self, worker: WorkerId) -> None:
        """It serves; another may load on its GPUs."""
        ...

    def release(self, worker: WorkerId) -> None:
        """Its processes are gone; nothing when it held no GPU."""
        ...


class NoGpus:
    """Every worker runs on the CPU."""

    def claim(self, instance: ComponentInstance, worker: WorkerId) -> str:
        return ""

    def has_room(self, instance: ComponentInstance) -> bool:
        return True

    def loaded(self, worker: WorkerId) -> None:
        pass

    def release(self, worker: WorkerId) -> None:
        pass


class LedgerPlacing:
    """`GpuPlacing` over the books. Loads are one at a time per GPU: two at once would measure each other's memory."""

    def __init__(
        self,
        ledger: GpuLedger,
        demand_of: Callable[[ComponentInstance], GpuDemand | None],
        record: Callable[[LedgerEvent], None],
        on_change: Callable[[], None],
    ) -> None:
        """`demand_of` may raise ApplianceError for an instance that contradicts itself. `on_change`: room has come."""
        self._ledger, self._demand_of, self._record, self._on_change = ledger, demand_of, record, on_change
        self._grants: dict[WorkerId, GpuGrant] = {}

    def claim(self, instance: ComponentInstance, worker: WorkerId) -> str:
        demand = self._demand_of(instance)
        if demand is None or (demand.may_do_without and has_no_gpu(self._ledger.scan)):
            return ""
        if self._ledger.scan is None:
            return UNSEEN
        grant = self._ledger.promise(worker, instance.key, demand)
        if isinstance(grant, str):
            return grant
        self._grants[worker] = grant
        amounts = {uuid: round(amount / GIB, 3) for uuid, amount in grant.promised.items()}
        self._note("place", f"it gets {len(amounts)} of the GPUs", worker, instance=instance.key, promised_gib=amounts)
        return ""

    def has_room(self, instance: ComponentInstance) -> bool:
        try:
            demand = self._demand_of(instance)
        except ApplianceError:
            return True  # the claim will say what is wrong
        if demand is None or (demand.may_do_without and has_no_gpu(self._ledger.scan)):
            return True
        if self._ledger.fault is not None:
            return False
        try:
            choose(self._ledger.places(), demand)
        except NoRoom:
            return False
        return True

    def loaded(self, worker: WorkerId) -> None:
        if worker in self._grants:
            self._ledger.loaded(worker)
            self._on_change()

    def release(self, worker: WorkerId) -> None:
        if self._grants.pop(worker, None) is not None and self._ledger.release(worker):
            self._note("release", "its processes have ended", worker)
            self._on_change()

    def grant(self, worker: WorkerId) -> GpuGrant | None:
        """What a worker was given; None: it runs without."""
        return self._grants.get(worker)

    def environment(self, worker: WorkerId) -> dict[str, str]:
        """Variables that show a worker its GPUs and hide all others. None on a machine without GPU."""
        grant = self._grants.get(worker)
        if grant is None and has_no_gpu(self._ledger.scan):
            return {}
        return gpu_environment(grant.uuids if grant else ())

    def _note(self, action: str, reason: str, worker: WorkerId, **inputs: object) -> None:
        self._record(LedgerEvent(subject=f"worker/{worker}", action=action, reason=reason, inputs=inputs))

"""Residency on this node: what it is told of the machine, and the service that acts on its decisions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from appliance.core.errors import ApplianceError
from appliance.core.gpus import GpuDemand
from appliance.core.instances import ComponentInstance
from appliance.core.ports import StateStore
from appliance.core.records import LedgerEvent
from appliance.core.settings import ResidencySettings
from appliance.graph.arguments import flag_value
from appliance.hardware.machine import read_machine
from appliance.roles.node.box import Box
from appliance.roles.node.desired import DesiredState
from appliance.roles.node.gpu_demand import gpu_demand
from appliance.roles.node.model_facts import ModelFacts
from appliance.roles.node.residency import Residency
from appliance.roles.node.sleep import Sleepers
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.residency.gpu_room import GpuRoom
from appliance.supervision.supervisor import Supervisor

PROCESS_BYTES = 160 << 20
"""Main memory of a worker process beside the weights, until it was measured."""


class ModelMemory:
    """Decides which models are loaded, and keeps what their loads have taken."""

    def __init__(
        self,
        store: StateStore,
        supervisor: Supervisor,
        ledger: GpuLedger,
        settings: Callable[[], ResidencySettings],
        note: Callable[[LedgerEvent], None],
        weights_of: Callable[[str], int],
        sleepers: Sleepers,
    ) -> None:
        """`weights_of`: bytes of a model by name or path, 0 while that is not known."""
        self._supervisor = supervisor
        box = describe_box(ledger, partial(_size, weights_of), partial(_demand, weights_of))
        self._on_cpu = box.memory_of
        self.residency = Residency(box, settings, supervisor.views, note, sleepers)
        self._facts = ModelFacts(store, self.residency.units, supervisor.views)
        self._desired: DesiredState | None = None

    async def restore(self) -> None:
        """Read what is known from earlier runs; before anything is wanted."""
        await self._facts.restore()

    async def run(self, desired: DesiredState) -> None:
        """Decide and measure for ever."""
        self._desired = desired
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._measure)
            await self.residency.run(self._supervisor.wait_changed, lambda: self._supervisor.version, self._want_again)

    def unload(self, name: str) -> dict[str, object]:
        """See `Residency.unload`."""
        return self.residency.unload(name, self._want_again)

    def _want_again(self) -> None:
        if self._desired is not None:
            self._desired.look_again()

    async def _measure(self) -> None:
        while True:
            seen = self._supervisor.version
            loaded, self.residency.loaded = self.residency.loaded, []
            for unit in loaded:
                await self._facts.keep(unit, in_main_memory=any(map(self._on_cpu, unit.instances)))
            # No deadline: a load is a change.
            await self._supervisor.wait_changed(seen)


def describe_box(
    ledger: GpuLedger,
    size_of: Callable[[ComponentInstance], int],
    demand_of: Callable[[ComponentInstance], GpuDemand | None],
) -> Box:
    """The machine as residency sees it."""
    return Box(
        memory_bytes=read_machine(Path("/")).memory_total,
        size_of=size_of,
        memory_of=lambda one: 0 if demand_of(one) is not None else size_of(one) + PROCESS_BYTES,
        looks_at=lambda one: ledger.scan is None and demand_of(one) is not None,
        room_on_gpus=lambda instances_of: GpuRoom(ledger, demand_of, instances_of),
    )


def _size(weights_of: Callable[[str], int], instance: ComponentInstance) -> int:
    return weights_of(flag_value(instance.argv, "--model") or "")


def _demand(weights_of: Callable[[str], int], instance: ComponentInstance) -> GpuDemand | None:
    try:
        return gpu_demand(instance, weights_of)
    except ApplianceError:
        return None  # its start will say what is wrong with it

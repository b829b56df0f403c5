"""The machine as residency sees it: what there is to hold models in, and what each model takes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.core.instances import ComponentInstance
from appliance.core.settings import ResidencySettings
from appliance.roles.node.model_units import Unit
from appliance.supervision.residency.room import Room

GB = 1_000_000_000
MEMORY = "memory"
"""Name of the main memory in what models need."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """What residency knows of the machine."""

    memory_bytes: int
    """All main memory."""
    size_of: Callable[[ComponentInstance], int]
    """Bytes of the weights of an instance's model; 0 while that is not known."""
    memory_of: Callable[[ComponentInstance], int]
    """Main memory that an instance will take, as an estimate; 0 for one that computes on GPUs."""
    looks_at: Callable[[ComponentInstance], bool]
    """Whether it is not known yet what GPUs there are for an instance that needs some."""
    room_on_gpus: Callable[[Callable[[str], Sequence[ComponentInstance]]], Callable[[Any], bool]]
    """Makes a `Devices` for `Room`, given the instances by model."""

    def needs(self, unit: Unit) -> dict[str, int]:
        """What a loaded model takes: as measured at its last load, else as estimated."""
        if unit.memory_bytes is not None:
            return {MEMORY: unit.memory_bytes}
        return {MEMORY: sum(self.memory_of(one) for one in unit.instances)}

    def needs_asleep(self, unit: Unit, level: int) -> dict[str, int]:
        """What a sleeping model keeps: its weights, at level 1."""
        return {MEMORY: sum(map(self.size_of, unit.instances)) if level == 1 else 0}

    def room(self, settings: ResidencySettings, devices: Callable[[Any], bool]) -> Room:
        """All there is for models, within the limits of the settings."""
        limit = settings.memory_limit_gb
        memory = self.memory_bytes if limit is None else int(limit * GB)
        return Room(most=settings.max_models, limits={MEMORY: memory}, devices=devices)

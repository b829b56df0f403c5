"""GPUs of supervision that are there, busy or missing as the test says."""

from dataclasses import dataclass, field

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.supervision.gpu_places import NoRoom


@dataclass
class FakeGpus:
    """A `GpuPlacing` that remembers who holds something."""

    refuse: str = ""
    """Why there is no room; empty: there is."""
    busy: str = ""
    """What a claim must wait for; empty: nothing."""
    held: set[WorkerId] = field(default_factory=set)
    serving: set[WorkerId] = field(default_factory=set)

    def claim(self, instance: ComponentInstance, worker: WorkerId) -> str:
        assert worker not in self.held
        if self.refuse:
            raise NoRoom(self.refuse)
        if not self.busy:
            self.held.add(worker)
        return self.busy

    def has_room(self, instance: ComponentInstance) -> bool:
        return not self.refuse

    def loaded(self, worker: WorkerId) -> None:
        assert worker in self.held
        self.serving.add(worker)

    def release(self, worker: WorkerId) -> None:
        self.held.discard(worker)
        self.serving.discard(worker)

"""What loading a model has taken: measured after each load, kept in the store for the next estimate."""

from collections.abc import Callable
from functools import partial

import structlog
import trio

from appliance.core.errors import ApplianceError
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import StoredObject
from appliance.roles.node.model_units import PastLoad, Unit, Units, model_of
from appliance.roles.node.process_usage import read_usage
from appliance.supervision.views import WorkerView

log = structlog.get_logger(__name__)

KIND = "ModelFacts"


class ModelFacts:
    """Keeps `Units.past`, and the measured memory of units."""

    def __init__(self, store: StateStore, units: Units, views: Callable[[], list[WorkerView]]) -> None:
        """`views`: the workers of now."""
        self._store, self._units, self._views = store, units, views
        self._one_look = trio.CapacityLimiter(1)

    async def restore(self) -> None:
        """Read what is known from earlier runs."""
        for kept in await self._store.read(lambda reader: reader.list_all(KIND)):
            self._units.past[kept.name] = PastLoad(
                model=str(kept.spec.get("model", "")),
                load_s=kept.spec.get("load_s"),
                memory_bytes=kept.spec.get("memory_bytes"),
                context_length=kept.spec.get("context_length"),
            )

    async def keep(self, unit: Unit, *, in_main_memory: bool) -> None:
        """A unit has just been loaded: measure it, and remember it. A full disk costs the memory of it."""
        if in_main_memory:
            keys = {one.key for one in unit.instances}
            pids = [view.pid for view in self._views() if view.key in keys and view.pid is not None]
            usage = await trio.to_thread.run_sync(read_usage, pids, limiter=self._one_look)
            unit.memory_bytes = sum(one.memory_bytes for one in usage.values()) or unit.memory_bytes
        past = PastLoad(
            model=model_of(unit.instances),
            load_s=unit.load_s,
            memory_bytes=unit.memory_bytes,
            context_length=unit.context_length,
        )
        if past == self._units.past.get(unit.name):
            return
        self._units.past[unit.name] = past
        try:
            await self._store.write(partial(_put, unit.name, past))
        except ApplianceError as error:
            log.warning("cannot keep what a load took", model=unit.name, error=error.message)


def _put(name: str, past: PastLoad, writer: StateWriter) -> None:
    spec = {
        "model": past.model,
        "load_s": past.load_s,
        "memory_bytes": past.memory_bytes,
        "context_length": past.context_length,
    }
    writer.put(StoredObject(kind=KIND, name=name, spec=spec))

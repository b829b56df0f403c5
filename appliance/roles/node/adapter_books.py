"""Which LoRA adapters are wanted, which worker holds which, and what follows from that. Pure: no I/O and no clock."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from appliance.core.identity import ModelName, WorkerId
from appliance.core.records import ModelPhase, ModelRecord
from appliance.wire.bus_messages import AdapterOrder

COMING = "its workers load the adapter"


class Adapter(msgspec.Struct, frozen=True):
    """An adapter that clients can ask for by its name."""

    name: str
    model: ModelName
    """The base model, whose workers compute it."""
    path: str
    created: int


@dataclass
class AdapterBooks:
    """What is wanted and what is there. Workers are known by their id, which no later process has again."""

    wanted: dict[str, Adapter] = field(default_factory=dict)
    held: dict[WorkerId, Mapping[str, str]] = field(default_factory=dict)
    """Folder by name, as the worker said last."""
    refused: dict[tuple[WorkerId, str], str] = field(default_factory=dict)
    """Why a worker could not do what was ordered of it with an adapter; it is not asked again."""
    in_hand: set[str] = field(default_factory=set)
    """Names that a user's call is about to change, which nobody else touches meanwhile."""

    def next_order(self, worker: WorkerId, model: str) -> AdapterOrder | None:
        """What a worker has to do next to hold what is wanted of its model and nothing else; None: it is done."""
        held = self.held.get(worker, {})
        for name, path in held.items():
            one = self.wanted.get(name)
            if self._may_order(worker, name) and (one is None or one.path != path):
                return AdapterOrder("unload", name)
        for one in self._of(model):
            if self._may_order(worker, one.name) and one.name not in held:
                return AdapterOrder("load", one.name, one.path)
        return None

    def lacks(self, worker: WorkerId, model: str) -> bool:
        """Whether an adapter is still to be loaded there; not one that was refused."""
        held = self.held.get(worker, {})
        return any(held.get(one.name) != one.path and (worker, one.name) not in self.refused for one in self._of(model))

    def holders(self, name: str, workers: Iterable[WorkerId]) -> list[WorkerId]:
        """Those of the workers that hold the wanted adapter."""
        one = self.wanted[name]
        return [worker for worker in workers if self.held.get(worker, {}).get(name) == one.path]

    def why_refused(self, name: str) -> str:
        """The reason of one of the workers that refused an adapter; empty when none did."""
        return next((reason for (_, refused), reason in self.refused.items() if refused == name), "")

    def give_another_chance(self, name: str) -> None:
        """Forget that workers have refused an adapter."""
        self.refused = {key: reason for key, reason in self.refused.items() if key[1] != name}

    def forget_gone(self, present: Collection[WorkerId]) -> None:
        """Forget workers whose processes are gone."""
        self.held = {worker: found for worker, found in self.held.items() if worker in present}
        self.refused = {key: reason for key, reason in self.refused.items() if key[0] in present}

    def phase(self, name: str, base: ModelPhase, workers: Collection[WorkerId]) -> tuple[ModelPhase, str | None]:
        """Phase of an adapter whose base model has these ready workers, and why; None: for the base model's reason."""
        if base != "ready" or self.holders(name, workers):
            return base, None
        if any((worker, name) not in self.refused for worker in workers):
            return "starting", COMING
        return "failed", f"no worker could load the adapter; see `dynamo-appliance why {name}`"

    def records(self, models: list[ModelRecord], ready: Mapping[ModelName, Collection[WorkerId]]) -> list[ModelRecord]:
        """The models, and behind them the adapters of those that exist. A name that a model has is the model's."""
        bases = {model.name: model for model in models}
        found = list(models)
        for one in self.wanted.values():
            base = bases.get(one.model)
            if base is None or one.name in bases:
                continue
            phase, reason = self.phase(one.name, base.phase, ready.get(one.model, ()))
            found.append(
                msgspec.structs.replace(
                    base,
                    name=ModelName(one.name),
                    created=one.created,
                    base=one.model,
                    phase=phase,
                    reason=base.reason if reason is None else reason,
                )
            )
        return found

    def _of(self, model: str) -> list[Adapter]:
        return [one for one in self.wanted.values() if one.model == model]

    def _may_order(self, worker: WorkerId, name: str) -> bool:
        return name not in self.in_hand and (worker, name) not in self.refused

"""Whether a set of models may be in memory together: by number, by bytes, by groups, and by what devices say."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from appliance.supervision.residency.model_state import ModelState, Residence

GIB = 1 << 30
Devices = Callable[[Collection[ModelState]], bool]


def _enough(_: Collection[ModelState]) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Room:
    """The limits of one box. Fewer models never fit worse than more."""

    most: int | None = None
    """Loaded models at the same time, sleeping ones not counted; None: any number."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Bytes by the name of a memory; memories that are not named have no limit."""
    devices: Devices = _enough
    """Whether GPUs have places for all of several."""

    def fits(self, models: Collection[ModelState]) -> bool:
        """Whether all of these may be loaded together; sleeping ones count with what they keep."""
        return not self.excess(models)

    def excess(self, models: Collection[ModelState]) -> str:
        """Why these may not be loaded together, in words; empty: they may."""
        awake = [model for model in models if model.residence is not Residence.ASLEEP]
        if self.most is not None and len(awake) > self.most:
            return f"at most {self.most} model{'' if self.most == 1 else 's'} may be loaded at the same time"
        shared = Counter(group for model in awake for group in model.groups)
        for group, members in shared.items():
            if members > 1:
                return f"of the group {group} only one model may be loaded"
        for memory, limit in self.limits.items():
            need = sum(_needs(model).get(memory, 0) for model in models)
            if need > limit:
                return f"{need / GIB:.2f} GiB of {memory} are needed and the limit is {limit / GIB:.2f} GiB"
        # Of a single model the replicas that fit serve; placing says of the others, with figures, why they do not.
        return "" if len(awake) < 2 or self.devices(models) else "the GPUs have no places for all of them"


def _needs(model: ModelState) -> Mapping[str, int]:
    return model.needs_asleep if model.residence is Residence.ASLEEP else model.needs

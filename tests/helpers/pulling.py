"""Pullers for tests: they write down what they say, and never really sleep."""

from dataclasses import dataclass, field
from pathlib import Path

from appliance.models.hub.progress import Meter
from appliance.models.hub.pull import Puller, PullWatch
from appliance.models.hub.remote import HubAccess, HuggingFaceHub
from appliance.models.store import ModelStore

TINY = Path(__file__).parent.parent / "data" / "tiny"
NOW = 1_700_000_000.0


def tiny_files(*names: str) -> dict[str, bytes]:
    """Files of the tiny test model, all but its GGUF form when none are named."""
    wanted = names or tuple(path.name for path in TINY.iterdir() if path.suffix != ".gguf")
    return {name: (TINY / name).read_bytes() for name in wanted}


@dataclass
class Rig:
    """One puller with everything that it said."""

    root: Path
    endpoint: str
    token: str | None = None
    lines: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupt: bool = False
    """As Ctrl-C would, in a pause between two tries."""

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.root)

    def puller(self, *, offline: bool = False) -> Puller:
        hub = None if offline else HuggingFaceHub(HubAccess(endpoint=self.endpoint, token=self.token))
        watch = PullWatch(
            on_progress=self._note,
            say=self.lines.append,
            pause=self._pause,
            clock=lambda: self.seconds,
            now=lambda: NOW,
        )
        return Puller(self.store, hub, self.endpoint, watch)

    def _note(self, meter: Meter) -> None:
        self.fractions.append(meter.fraction)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.interrupt:
            raise KeyboardInterrupt
        self.seconds += seconds

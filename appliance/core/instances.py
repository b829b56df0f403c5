"""A component instance: one process (or pod) that a graph asks for. The graph makes them, supervision runs them."""

from dataclasses import dataclass, field

from appliance.core.gpus import GpuRequest


@dataclass(frozen=True, kw_only=True)
class ResidenceWish:
    """How a component's model shares memory with others; it may change while its processes run."""

    pinned: bool = False
    """Always loaded, never unloaded for another model."""
    idle_s: float | None = None
    """Unloaded after this long without a request, 0 never; None: as the settings say."""
    groups: frozenset[str] = frozenset()
    """Of the models of one group at most one is loaded at a time."""


@dataclass(frozen=True, kw_only=True)
class ComponentInstance:
    """One wanted replica of one component of one graph."""

    graph: str
    component: str
    index: int
    """0-based replica number."""
    type: str
    """`frontend`, `worker`, `prefill`, `decode`, `planner` or empty for a generic component."""
    argv: tuple[str, ...]
    """Verb and flags for our own executable, e.g. `("worker", "--engine", "llamacpp", "--model", "/m.gguf")`."""
    env: dict[str, str] = field(default_factory=dict)
    gpus: GpuRequest = field(default_factory=GpuRequest)
    """What its manifest asks for; engines may need some without being asked."""
    residence: ResidenceWish = field(default_factory=ResidenceWish)
    spec_hash: str
    """Changes exactly when the process must be replaced."""

    @property
    def key(self) -> str:
        """Stable over restarts: `graph/component/index`."""
        return f"{self.graph}/{self.component}/{self.index}"

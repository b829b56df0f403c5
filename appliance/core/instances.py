"""A component instance: one process (or pod) that a graph asks for. The graph makes them, supervision runs them."""

from dataclasses import dataclass, field

from appliance.core.gpus import GpuRequest


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
    spec_hash: str
    """Changes exactly when the process must be replaced."""

    @property
    def key(self) -> str:
        """Stable over restarts: `graph/component/index`."""
        return f"{self.graph}/{self.component}/{self.index}"

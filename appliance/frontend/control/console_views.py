"""What the web console asks of the node: a small protocol that the supervisor implements. Plain data in and out."""

from typing import Any, Protocol

Object = dict[str, Any]


class ConsoleService(Protocol):
    """Reads for the pages, and the few things that they can do. Every method may raise an `ApplianceError`."""

    def allows_actions(self) -> bool:
        """Whether callers may change anything: not where everybody may call without a key."""
        ...

    async def status(self) -> Object:
        """Graphs, processes, models, GPUs, and what there are logs of."""
        ...

    async def requests(self) -> Object:
        """`active` and `ended` requests of all front ends, newest first. Cancelling gives the collection up."""
        ...

    async def why(self, subject: str, limit: int) -> Object:
        """The `request` of that id when it is still known, its `placements`, the `events` about it and its workers."""
        ...

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        """Ledger rows, newest first."""
        ...

    def load(self, since: float) -> Object:
        """Samples of the load after a Unix time, oldest first, and `interval_s`."""
        ...

    def log_lines(self, component: str, after: float, limit: int) -> list[Object]:
        """The last lines after a Unix time: `at`, `worker`, `text`. Raises `NotFound`."""
        ...

    async def scale(self, component: str, replicas: int, graph: str | None) -> Object:
        """Set the replicas of a component. Raises `NotFound`."""
        ...

    async def load_model(self, model: str) -> Object:
        """Load a model as if a request waited for it; returns at once. Raises `NotFound`, `Conflict`."""
        ...

    async def unload_model(self, model: str) -> Object:
        """Unload a model once its requests are done; returns at once. Raises `NotFound`, and `Conflict` for a pin."""
        ...

    async def restart(self, worker: str) -> None:
        """Replace a worker in order. Raises `NotFound`."""
        ...

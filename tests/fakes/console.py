"""A fake of what the web console asks of the node."""

from typing import Any

from appliance.core.errors import Conflict, NotFound

Object = dict[str, Any]


class FakeConsole:
    """A `ConsoleService` that notes what it was asked."""

    def __init__(self) -> None:
        self.open = True
        self.asked: list[tuple[object, ...]] = []

    def allows_actions(self) -> bool:
        return self.open

    async def status(self) -> Object:
        return {"ready": True}

    async def requests(self) -> Object:
        return {"active": [], "ended": []}

    async def why(self, subject: str, limit: int) -> Object:
        self.asked.append(("why", subject, limit))
        return {"request": None, "placements": [], "events": []}

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        self.asked.append(("events", subject, limit))
        return []

    def load(self, since: float) -> Object:
        self.asked.append(("load", since))
        return {"interval_s": 2.0, "samples": []}

    def log_lines(self, component: str, after: float, limit: int) -> list[Object]:
        if component != "worker":
            raise NotFound(f"no logs of {component!r}")
        self.asked.append(("logs", after, limit))
        return [{"at": 1.0, "worker": "w", "text": "hello"}]

    async def scale(self, component: str, replicas: int, graph: str | None) -> Object:
        self.asked.append(("scale", component, replicas, graph))
        return {}

    async def load_model(self, model: str) -> Object:
        self.asked.append(("load_model", model))
        return {"name": model, "residence": "cold"}

    async def unload_model(self, model: str) -> Object:
        if model == "pinned":
            raise Conflict("cannot unload pinned: it is pinned")
        self.asked.append(("unload_model", model))
        return {"name": model, "residence": "leaving"}

    async def restart(self, worker: str) -> None:
        if worker != "w":
            raise NotFound(f"no worker is called {worker!r}")
        self.asked.append(("restart", worker))

"""Fakes of what the control apps ask of the node."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from appliance.core.errors import Conflict, ModelNotFound, NotFound, Unprocessable
from appliance.core.records import BusyThreshold, ModelRecord
from appliance.frontend.control.views import BusyThresholdOrder, Health, MeasuredEngine, Object


class FakeView:
    """A `ControlView` whose answers a test sets."""

    def __init__(self) -> None:
        self.report = Health(status="healthy")
        self.thresholds: dict[str, BusyThreshold] = {}
        self.known = {"m"}
        self.engines: dict[str, bytes] = {}

    def health(self) -> Health:
        return self.report

    def models(self) -> list[ModelRecord]:
        return []

    async def metrics(self) -> bytes:
        return b"dynamo_frontend_requests_total 1\n"

    async def engine_metrics(self, worker: str) -> bytes:
        if worker not in self.engines:
            raise NotFound(f"no worker {worker}")
        return self.engines[worker]

    async def measured_engines(self) -> list[MeasuredEngine]:
        return [
            MeasuredEngine(worker=worker, graph="g", component="w", model="m", engine="vllm") for worker in self.engines
        ]

    def busy_thresholds(self) -> list[BusyThreshold]:
        return list(self.thresholds.values())

    async def set_busy_threshold(self, order: BusyThresholdOrder) -> BusyThreshold:
        if order.model not in self.known:
            raise ModelNotFound(f"no model {order.model}; there is m")
        given = {name: value for name, value in msgspec.structs.asdict(order).items() if value is not msgspec.UNSET}
        old = self.thresholds.get(order.model, BusyThreshold(model=order.model))
        self.thresholds[order.model] = msgspec.structs.replace(old, **given)
        return self.thresholds[order.model]


class FakeAdmin:
    """An `AdminService` over dicts."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.keys: set[str] = set()
        self.lines = ["one", "two", "three"]
        self.scaled: list[tuple[str, int, str | None]] = []
        self.restarted: list[tuple[str, str | None]] = []
        self.asked: list[tuple[str | None, int]] = []
        self.stopped = False
        self.open_logs = 0

    async def list_objects(self, kind: str) -> list[Object]:
        return [value for (of_kind, _), value in self.objects.items() if of_kind == kind]

    async def read_object(self, kind: str, name: str) -> Object:
        if (kind, name) not in self.objects:
            raise NotFound(f"no {kind} {name}")
        return self.objects[kind, name]

    async def apply_objects(self, manifests: list[Object]) -> list[Object]:
        for manifest in manifests:
            if "kind" not in manifest:
                raise Unprocessable("kind is missing")
            self.objects[manifest["kind"], manifest["metadata"]["name"]] = manifest
        return manifests

    async def delete_object(self, kind: str, name: str) -> Object:
        gone = await self.read_object(kind, name)
        del self.objects[kind, name]
        return gone

    async def scale(self, component: str, replicas: int, graph: str | None) -> Object:
        self.scaled.append((component, replicas, graph))
        return {"component": component, "replicas": replicas}

    async def restart(self, component: str, graph: str | None) -> Object:
        self.restarted.append((component, graph))
        return {"component": component, "replicas": 1}

    async def load_model(self, name: str) -> Object:
        return {"name": name, "residence": "loading"}

    async def unload_model(self, name: str) -> Object:
        raise Conflict(f"cannot unload {name}: it is pinned")

    async def list_adapters(self) -> list[Object]:
        return []

    async def load_adapter(self, model: str, name: str, path: str) -> Object:
        return {"name": name, "model": model, "workers": 1, "already": False}

    async def unload_adapter(self, name: str) -> Object:
        raise NotFound(f"no adapter {name!r} is loaded; loaded: none")

    async def list_keys(self) -> list[Object]:
        return [{"name": name} for name in sorted(self.keys)]

    async def create_key(self, name: str) -> Object:
        if name in self.keys:
            raise Conflict(f"there is a key {name}")
        self.keys.add(name)
        return {"name": name, "secret": "sk-1"}

    async def delete_key(self, name: str) -> Object:
        if name not in self.keys:
            raise NotFound(f"no key {name}")
        self.keys.remove(name)
        return {"name": name}

    async def status(self) -> Object:
        return {"components": []}

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        self.asked.append((subject, limit))
        return []

    async def find_logs(self, component: str) -> str:
        if component != "worker":
            raise NotFound(f"no component {component}")
        return "serve/worker/0"

    @asynccontextmanager
    async def logs(self, name: str, lines: int, follow: bool) -> AsyncIterator[AsyncIterable[str]]:
        assert name == "serve/worker/0"
        self.open_logs += 1
        try:
            yield self._tail(lines, follow)
        finally:
            self.open_logs -= 1

    async def _tail(self, lines: int, follow: bool) -> AsyncIterator[str]:
        for line in self.lines[-lines:]:
            yield line
        if follow:
            await trio.sleep_forever()

    async def config(self) -> dict[str, Any]:
        return {"http": {"port": 8000}}

    async def change_config(self, changes: dict[str, str]) -> Object:
        return {name: {"old": None, "new": value} for name, value in changes.items()}

    async def decisions(self, request: str) -> Object:
        if request != "r/1":
            raise NotFound(f"no request {request}")
        return {"placements": [], "requests": [{"id": request}]}

    @asynccontextmanager
    async def backup(self, with_models: bool) -> AsyncIterator[AsyncIterable[bytes]]:
        yield self._blocks(with_models)

    async def _blocks(self, with_models: bool) -> AsyncIterator[bytes]:
        yield b"database"
        if with_models:
            yield b"models"

    async def stop(self) -> None:
        self.stopped = True

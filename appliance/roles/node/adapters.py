"""LoRA adapters of the running workers: loaded on every worker of a model, and again on those that come later.

They are not stored: after a restart of the appliance none is loaded.
"""

import time
from typing import Any

import msgspec
import structlog
import trio

from appliance.core.errors import ApplianceError, Conflict, InvalidRequest, NotFound, NotImplementedHere
from appliance.core.identity import ModelName
from appliance.core.records import ModelRecord
from appliance.roles.node.board import Board
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from appliance.transport.bus_server import BusServer
from appliance.wire.bus_messages import ADAPTERS, AdapterAnswer, AdapterOrder

log = structlog.get_logger(__name__)

LOAD_S = 130.0  # more than engines are given to read an adapter


class Adapter(msgspec.Struct, frozen=True):
    """An adapter that clients can ask for by its name."""

    name: str
    model: ModelName
    """The base model, whose workers compute it."""
    path: str
    created: int


class NodeAdapters:
    """What is loaded by order of the user; `run` brings it to workers that start."""

    def __init__(self, board: Board, bus: BusServer, supervisor: Supervisor) -> None:
        self._board, self._bus, self._supervisor = board, bus, supervisor
        self._wanted: dict[str, Adapter] = {}
        self._turn = trio.Lock()
        board.adapters = self.records

    def records(self, models: list[ModelRecord]) -> list[ModelRecord]:
        """The models, and behind them the adapters, each as ready as its base model."""
        bases = {model.name: model for model in models}
        found = [
            msgspec.structs.replace(base, name=ModelName(one.name), created=one.created, base=one.model)
            for one in self._wanted.values()
            if (base := bases.get(one.model)) is not None
        ]
        return models + found

    def listed(self) -> list[dict[str, Any]]:
        """Name, base model and folder of each."""
        return [msgspec.to_builtins(one) for one in self._wanted.values()]

    async def load(self, model: str, name: str, path: str) -> dict[str, Any]:
        """Load an adapter on every worker of a model, or on none.

        Raises `NotFound` for a model without ready workers, `Conflict` for a name that is taken, and what an engine
        refuses. A second load of the same changes nothing. Cancelled, it may be loaded on some workers, unused.
        """
        folder = trio.Path(path)
        if not folder.is_absolute() or not await folder.is_dir():
            raise InvalidRequest(f"there is no adapter folder {path}", param="path")
        async with self._turn:
            known = self._wanted.get(name)
            if known is not None and (known.model, known.path) == (model, path):
                return {"name": name, "model": model, "workers": len(self._ready(model)), "already": True}
            if known is not None or any(one.name == name for one in self._board.models()):
                raise Conflict(f"the name {name!r} is taken")
            if not (workers := self._ready(model)):
                raise NotFound(f"the model {model!r} has no ready worker to load an adapter on")
            try:
                for worker in workers:
                    await self._order(worker, AdapterOrder("load", name, path))
            except ApplianceError:
                await self._take_back(workers, name)
                raise
            self._wanted[name] = Adapter(name, ModelName(model), path, int(time.time()))
            self._supervisor.note_change()
            return {"name": name, "model": model, "workers": len(workers), "already": False}

    async def unload(self, name: str) -> dict[str, Any]:
        """Let nobody ask for an adapter any more, then unload it. Raises `NotFound`, naming those that are loaded."""
        async with self._turn:
            one = self._wanted.pop(name, None)
            if one is None:
                raise NotFound(f"no adapter {name!r} is loaded; loaded: {', '.join(self._wanted) or 'none'}")
            self._supervisor.note_change()
            await self._take_back(self._ready(one.model), name)
            return {"name": name, "model": one.model}

    async def run(self) -> None:
        """Load on workers that have become ready, for ever."""
        done: set[tuple[str, str]] = set()
        while True:
            seen = self._supervisor.version
            async with self._turn:
                for one in list(self._wanted.values()):
                    for worker in self._ready(one.model):
                        if (worker.id, one.name) not in done:
                            await self._bring(worker, one)
                            done.add((worker.id, one.name))
                done &= {(view.id, name) for view in self._board.workers() for name in self._wanted}
            # No deadline: there is nothing to do until something changes.
            await self._supervisor.wait_changed(seen)

    async def _bring(self, worker: WorkerView, one: Adapter) -> None:
        try:
            await self._order(worker, AdapterOrder("load", one.name, one.path))
        except ApplianceError as error:
            log.warning("adapter not loaded", worker=worker.id, adapter=one.name, reason=error.message)

    async def _take_back(self, workers: list[WorkerView], name: str) -> None:
        for worker in workers:
            try:
                await self._order(worker, AdapterOrder("unload", name))
            except ApplianceError as error:
                log.info("adapter not unloaded", worker=worker.id, adapter=name, reason=error.message)

    async def _order(self, worker: WorkerView, order: AdapterOrder) -> None:
        child = self._bus.find("worker", worker.id)
        text = msgspec.json.encode(order).decode()
        told = None if child is None else await child.pull(ADAPTERS, LOAD_S, text)
        if told is None:
            raise NotImplementedHere(f"the engine of {worker.id} takes no adapters while it runs")
        answer = msgspec.convert(told, AdapterAnswer)
        if answer.error:
            raise InvalidRequest(f"{worker.id}: {answer.error}", param="lora")

    def _ready(self, model: str) -> list[WorkerView]:
        views = self._board.workers()
        return [view for view in views if view.phase == "ready" and view.card is not None and view.card.name == model]

"""LoRA adapters of the workers: loaded by order of the user, kept in the store, brought to every worker that starts.

A worker serves, also for its base model, once it holds every adapter of its model or has refused it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import trio

from appliance.core.errors import ApplianceError, Conflict, InvalidRequest, NotFound, NotImplementedHere
from appliance.core.identity import ModelName, WorkerId
from appliance.core.records import LedgerEvent, ModelRecord
from appliance.roles.node.adapter_books import Adapter, AdapterBooks
from appliance.roles.node.adapter_store import AdapterStore
from appliance.roles.node.board import Board
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from appliance.transport.bus_server import BusServer
from appliance.wire.bus_messages import ADAPTERS, AdapterAnswer, AdapterOrder

LOAD_S = 130.0  # more than engines are given to read an adapter
HOLDING_BACK = "it loads adapters"
LOADING = "loading adapters"


class NodeAdapters:
    """What is loaded by order of the user; `run` brings it to workers that start or wake."""

    def __init__(
        self,
        store: AdapterStore,
        board: Board,
        bus: BusServer,
        supervisor: Supervisor,
        is_awake: Callable[[WorkerId], bool],
        note: Callable[[LedgerEvent], None],
    ) -> None:
        """`is_awake`: false for a worker that sleeps, falls asleep or wakes, of which nothing can be ordered."""
        self._store, self._board, self._bus, self._supervisor = store, board, bus, supervisor
        self._is_awake, self._note = is_awake, note
        self._books = AdapterBooks()
        self._busy: set[WorkerId] = set()
        self._turn = trio.Lock()
        board.adapters = self.records

    async def restore(self) -> None:
        """Want what was loaded before the last stop; before any worker starts. Raises `StateUnavailable`."""
        self._books.wanted = {one.name: one for one in await self._store.all()}

    def records(self, models: list[ModelRecord]) -> list[ModelRecord]:
        """The models, and behind them the adapters, none readier than its base model."""
        ready: dict[ModelName, list[WorkerId]] = {}
        for view in self._awake():
            if view.card is not None:
                ready.setdefault(view.card.name, []).append(view.id)
        return self._books.records(models, ready)

    def as_front_ends_see(self, views: Sequence[WorkerView]) -> list[WorkerView]:
        """Workers that have yet to load an adapter are still starting."""
        return [replace(view, phase="starting", reason=HOLDING_BACK) if self._lacks(view) else view for view in views]

    def shown(self, view: WorkerView) -> tuple[str, float] | None:
        """What to say of a worker in place of its phase, and since when; None: its phase says all."""
        return (LOADING, view.since) if self._lacks(view) else None

    def are_brought(self) -> bool:
        """Whether no worker that could serve is held back."""
        return not any(map(self._lacks, self._awake()))

    def listed(self) -> list[dict[str, Any]]:
        """Name, base model and folder of each, on which workers it is, and why it is not on others."""
        phases = {record.name: record.phase for record in self._board.models() if record.base is not None}
        return [
            {
                **msgspec.to_builtins(one),
                "phase": phases.get(ModelName(one.name), "cold"),
                "workers": self._books.holders(one.name, [view.id for view in self._awake(one.model)]),
                "reason": self._books.why_refused(one.name),
            }
            for one in self._books.wanted.values()
        ]

    async def load(self, model: str, name: str, path: str) -> dict[str, Any]:
        """Load an adapter on every worker of a model, or on none, and keep it.

        Raises `NotFound` for a model without ready workers, `Conflict` for a name that is taken, `StateUnavailable`,
        and what an engine refuses. A second load of the same only tries workers that do not hold it. Cancelled, it may
        be loaded on some workers, from which it is taken again.
        """
        if not await _is_folder(path):
            raise InvalidRequest(f"there is no adapter folder {path}", param="path")
        async with self._turn:
            known = self._books.wanted.get(name)
            if known is not None and (known.model, known.path) != (model, path):
                raise Conflict(f"the name {name!r} is taken by an adapter of {known.model}; unload it first")
            if known is None and any(one.name == name for one in self._board.models()):
                raise Conflict(f"the name {name!r} is taken")
            if known is None and not self._awake(model):
                raise NotFound(f"the model {model!r} has no ready worker to load an adapter on")
            with self._in_hand(name):
                changed = await self._load_everywhere(known, model, name, path)
            return {"name": name, "model": model, "workers": len(self._awake(model)), "already": not changed}

    async def unload(self, name: str) -> dict[str, Any]:
        """Let nobody ask for an adapter any more, then unload it. Raises `StateUnavailable`, and `NotFound`, naming
        those that are loaded."""
        async with self._turn:
            one = self._books.wanted.get(name)
            if one is None:
                raise NotFound(f"no adapter {name!r} is loaded; loaded: {', '.join(self._books.wanted) or 'none'}")
            with self._in_hand(name):
                await self._store.forget(one)
                del self._books.wanted[name]
                self._books.give_another_chance(name)
                self._supervisor.note_change()
                for worker in self._holding(name):
                    await self._try(worker, AdapterOrder("unload", name))
            return {"name": name, "model": one.model}

    async def run(self) -> None:
        """Have workers hold what is wanted, for ever. A slow one keeps no other waiting."""
        async with trio.open_nursery() as nursery:
            while True:
                seen = self._supervisor.version
                self._books.forget_gone({view.id for view in self._board.workers()})
                for worker in self._awake():
                    if worker.id not in self._busy and self._next(worker) is not None:
                        self._busy.add(worker.id)
                        nursery.start_soon(self._settle, worker)
                # No deadline: there is nothing to do until something changes.
                await self._supervisor.wait_changed(seen)

    async def _settle(self, worker: WorkerView) -> None:
        try:
            while self._is_ready(worker.id) and (order := self._next(worker)) is not None:
                await self._try(worker, order)
        finally:
            self._busy.discard(worker.id)
            self._supervisor.note_change()

    async def _load_everywhere(self, known: Adapter | None, model: str, name: str, path: str) -> bool:
        """Whether anything was to be done. New workers may come meanwhile, and shall not have to be held back."""
        changed = known is None
        try:
            while missing := [one for one in self._awake(model) if self._books.held.get(one.id, {}).get(name) != path]:
                changed = True
                await self._order(missing[0], AdapterOrder("load", name, path))
            if known is None:
                self._books.wanted[name] = await self._store.keep(name, model, path)
        except ApplianceError:
            for worker in self._holding(name) if known is None else ():
                await self._try(worker, AdapterOrder("unload", name))
            raise
        return changed

    async def _try(self, worker: WorkerView, order: AdapterOrder) -> None:
        """Order, and write down what a worker that is still there refuses."""
        try:
            if order.act == "load" and not await _is_folder(order.path):
                raise InvalidRequest(f"there is no adapter folder {order.path} any more")
            await self._order(worker, order)
        except ApplianceError as error:
            if not self._is_ready(worker.id):
                return
            self._books.refused[worker.id, order.name] = error.message
            inputs = {"worker": worker.id, "act": order.act}
            reason = f"cannot {order.act} the adapter: {error.message}"
            self._note(LedgerEvent(subject=f"model/{order.name}", action="refuse", reason=reason, inputs=inputs))

    async def _order(self, worker: WorkerView, order: AdapterOrder) -> None:
        child = self._bus.find("worker", worker.id)
        text = msgspec.json.encode(order).decode()
        told = None if child is None else await child.pull(ADAPTERS, LOAD_S, text)
        if told is None:
            raise NotImplementedHere(f"the engine of {worker.id} takes no adapters while it runs")
        answer = msgspec.convert(told, AdapterAnswer)
        self._books.held[worker.id] = answer.loaded
        if answer.error:
            raise InvalidRequest(f"{worker.id}: {answer.error}", param="lora")
        self._books.refused.pop((worker.id, order.name), None)

    @contextmanager
    def _in_hand(self, name: str) -> Iterator[None]:
        self._books.in_hand.add(name)
        try:
            yield
        finally:
            self._books.in_hand.discard(name)
            self._supervisor.note_change()

    def _next(self, worker: WorkerView) -> AdapterOrder | None:
        return None if worker.card is None else self._books.next_order(worker.id, worker.card.name)

    def _lacks(self, view: WorkerView) -> bool:
        return view.phase == "ready" and view.card is not None and self._books.lacks(view.id, view.card.name)

    def _is_ready(self, worker: WorkerId) -> bool:
        return any(view.id == worker for view in self._awake())

    def _holding(self, name: str) -> list[WorkerView]:
        """Ready workers that hold an adapter."""
        return [view for view in self._awake() if name in self._books.held.get(view.id, {})]

    def _awake(self, model: str | None = None) -> list[WorkerView]:
        """Workers that serve, or could but for an adapter; only those of a model when one is given."""
        ready = [view for view in self._board.workers() if view.phase == "ready" and self._is_awake(view.id)]
        return [view for view in ready if model is None or (view.card is not None and view.card.name == model)]


async def _is_folder(path: str) -> bool:
    folder = trio.Path(path)
    return folder.is_absolute() and await folder.is_dir()

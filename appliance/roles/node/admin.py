"""The admin service: objects, keys and diagnosis in one, as the admin app wants them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import trio

from appliance.core.ports import StateStore
from appliance.roles.node.adapters import NodeAdapters
from appliance.roles.node.backups import Backups
from appliance.roles.node.board import Board
from appliance.roles.node.diagnosis import NodeDiagnosis
from appliance.roles.node.front_end_totals import FrontEndTotals
from appliance.roles.node.keys import KeyStore
from appliance.roles.node.model_memory import ModelMemory
from appliance.roles.node.objects import Object, ObjectStoreAdmin
from appliance.roles.node.restarts import Restarts
from appliance.roles.node.tuning import Tuning
from appliance.supervision.supervisor import Supervisor
from appliance.transport.bus_server import BusServer


class NodeAdmin(ObjectStoreAdmin, KeyStore, NodeDiagnosis):
    """`AdminService` of one node."""

    def __init__(
        self,
        store: StateStore,
        board: Board,
        supervisor: Supervisor,
        bus: BusServer,
        totals: FrontEndTotals,
        port: int,
        on_stop: Callable[[], None],
        backups: Backups,
        restarts: Restarts,
        tuning: Tuning,
        memory: ModelMemory,
        adapters: NodeAdapters,
    ) -> None:
        ObjectStoreAdmin.__init__(self, store)
        NodeDiagnosis.__init__(self, board, store, supervisor, bus, totals, port)
        self._on_stop = on_stop
        self._adapters = adapters
        self._backups, self._restarts, self._tuning, self._memory = backups, restarts, tuning, memory

    def backup(self, with_models: bool) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See `Backups.backup`."""
        return self._backups.backup(with_models)

    async def restart(self, component: str, graph: str | None) -> Object:
        """See `Restarts.restart`."""
        await trio.lowlevel.checkpoint()
        return self._restarts.restart(component, graph)

    async def change_config(self, changes: dict[str, str]) -> Object:
        """See `Tuning.change_config`."""
        return await self._tuning.change_config(changes)

    async def load_model(self, name: str) -> Object:
        """See `Residency.load`."""
        await trio.lowlevel.checkpoint()
        return self._memory.residency.load(name)

    async def unload_model(self, name: str) -> Object:
        """See `Residency.unload`."""
        await trio.lowlevel.checkpoint()
        return self._memory.unload(name)

    async def list_adapters(self) -> list[Object]:
        """See `NodeAdapters.listed`."""
        await trio.lowlevel.checkpoint()
        return self._adapters.listed()

    async def load_adapter(self, model: str, name: str, path: str) -> Object:
        """See `NodeAdapters.load`."""
        return await self._adapters.load(model, name, path)

    async def unload_adapter(self, name: str) -> Object:
        """See `NodeAdapters.unload`."""
        return await self._adapters.unload(name)

    async def stop(self) -> None:
        """Begin an orderly stop, as after SIGTERM."""
        self._on_stop()
        await trio.lowlevel.checkpoint()

"""LoRA adapters of one worker: what the supervisor orders over the bus, done by the engine, one order at a time."""

import msgspec
import trio

from appliance.core.errors import ApplianceError, Conflict, NotFound
from appliance.core.ports import AdapterHost
from appliance.wire.bus_messages import AdapterAnswer, AdapterOrder


class WorkerAdapters:
    """What is loaded, and how that changes."""

    def __init__(self, engine: AdapterHost) -> None:
        self._engine = engine
        self._loaded: dict[str, str] = {}
        """Folder by name."""
        self._turn = trio.Lock()

    async def obey(self, about: str) -> object:
        """Do an `AdapterOrder` (as JSON); an `AdapterAnswer` as plain data. Never raises what the engine refuses."""
        order = msgspec.json.decode(about, type=AdapterOrder)
        async with self._turn:
            try:
                fresh = await self._do(order)
            except ApplianceError as error:
                return msgspec.to_builtins(AdapterAnswer(self._loaded, code=error.code, error=error.message))
            return msgspec.to_builtins(AdapterAnswer(self._loaded, fresh=fresh))

    async def _do(self, order: AdapterOrder) -> bool:
        """Whether anything was changed."""
        match order.act:
            case "load":
                return await self._load(order.name, order.path)
            case "unload":
                if order.name not in self._loaded:
                    raise NotFound(f"no adapter {order.name!r} is loaded; loaded: {', '.join(self._loaded) or 'none'}")
                await self._engine.unload_adapter(order.name)
                del self._loaded[order.name]
                return True
        return False

    async def _load(self, name: str, path: str) -> bool:
        if (there := self._loaded.get(name)) == path:
            return False
        if there is not None:
            raise Conflict(f"the adapter {name!r} is loaded from {there}; unload it first")
        await self._engine.load_adapter(name, path)
        self._loaded[name] = path
        return True

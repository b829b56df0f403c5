"""LoRA adapters as the state store keeps them, each with the decision that put it there or took it away."""

import msgspec

from appliance.core.identity import ModelName
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import LedgerEvent, StoredObject
from appliance.roles.node.adapter_books import Adapter

KIND = "LoraAdapter"
REASON = "asked for by a user"


class AdapterStore:
    """Adapters that outlive the process. All methods raise `StateUnavailable`; cancelled, a change may be made."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    async def all(self) -> list[Adapter]:
        """Those that are kept, by name."""
        return [_adapter(one) for one in await self._store.read(lambda reader: reader.list_all(KIND))]

    async def keep(self, name: str, model: str, path: str) -> Adapter:
        """Keep an adapter; one of that name is replaced."""

        def keep(writer: StateWriter) -> StoredObject:
            made = writer.put(StoredObject(kind=KIND, name=name, spec={"model": model, "path": path}))
            writer.record(_event(name, "load", {"model": model, "folder": path}))
            return made

        return _adapter(await self._store.write(keep))

    async def forget(self, one: Adapter) -> None:
        """Keep it no longer; no error when it is not there."""

        def forget(writer: StateWriter) -> None:
            writer.delete(KIND, one.name)
            writer.record(_event(one.name, "unload", {"model": one.model, "folder": one.path}))

        await self._store.write(forget)


def _adapter(stored: StoredObject) -> Adapter:
    spec = msgspec.convert(stored.spec, dict[str, str])
    return Adapter(stored.name, ModelName(spec["model"]), spec["path"], int(stored.created_at))


def _event(name: str, action: str, inputs: dict[str, object]) -> LedgerEvent:
    return LedgerEvent(subject=f"model/{name}", action=action, reason=REASON, inputs=inputs)

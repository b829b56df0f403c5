"""API keys: made, listed and revoked in the store, as hashes."""

import secrets
from typing import Any

from appliance.core.errors import Conflict, InvalidRequest, NotFound
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import KeyRecord, LedgerEvent, StoredObject
from appliance.web.guards import hash_key

KIND = "ApiKey"
PREFIX = "dyn-"
SECRET_BYTES = 32
NAME_LIMIT = 100

Object = dict[str, Any]


class KeyStore:
    """`KeyAdmin` over the state store."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    async def list_keys(self) -> list[Object]:
        return [{"name": key.name, "created": key.created} for key in await self.records()]

    async def create_key(self, name: str) -> Object:
        if not name or len(name) > NAME_LIMIT or not name.isprintable():
            raise InvalidRequest(f"name: must be 1 to {NAME_LIMIT} printable characters", param="name")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)

        def create(writer: StateWriter) -> None:
            if writer.get(KIND, name) is not None:
                raise Conflict(f"a key called {name!r} exists; revoke it first or choose another name")
            writer.put(StoredObject(kind=KIND, name=name, spec={"sha256": hash_key(secret)}))
            writer.record(LedgerEvent(subject=f"key/{name}", action="create", reason="asked for by a user"))

        await self._store.write(create)
        return {"name": name, "key": secret}

    async def delete_key(self, name: str) -> Object:
        def delete(writer: StateWriter) -> None:
            if writer.delete(KIND, name) is None:
                raise NotFound(f"no key is called {name!r}")
            writer.record(LedgerEvent(subject=f"key/{name}", action="delete", reason="asked for by a user"))

        await self._store.write(delete)
        return {"name": name}

    async def records(self) -> list[KeyRecord]:
        """All stored keys."""
        return [key_record(obj) for obj in await self._store.read(lambda reader: reader.list_all(KIND))]


def key_record(obj: StoredObject) -> KeyRecord:
    """A stored key as front ends get it."""
    return KeyRecord(name=obj.name, sha256=obj.spec["sha256"], created=int(obj.created_at))

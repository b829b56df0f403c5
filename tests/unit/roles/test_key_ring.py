"""The keys that hold now: of the file and of the store, whichever of them changes."""

import trio
from trio.testing import wait_all_tasks_blocked

from appliance.core.records import KeyRecord
from appliance.roles.node.key_ring import KeyRing
from appliance.roles.node.keys import KeyStore
from appliance.state.memory import MemoryStateStore


def of_file(name: str) -> KeyRecord:
    return KeyRecord(name=name, sha256="0" * 64, created=0)


async def test_keys_of_file_and_store_hold_together_and_change_apart(nursery: trio.Nursery) -> None:
    store, given = MemoryStateStore(), list[list[str]]()
    ring = KeyRing(store, [of_file("filed")], lambda keys: given.append([key.name for key in keys]))
    await KeyStore(store).create_key("stored")
    await nursery.start(ring.run)
    assert given == [["filed", "stored"]]
    await KeyStore(store).create_key("later")
    await wait_all_tasks_blocked()
    assert given[-1] == ["filed", "later", "stored"]
    ring.use_file([of_file("refiled")])
    assert given[-1] == ["refiled", "later", "stored"]
    await KeyStore(store).delete_key("stored")
    await wait_all_tasks_blocked()
    assert given[-1] == ["refiled", "later"]

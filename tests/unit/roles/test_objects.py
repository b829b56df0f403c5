"""Objects and keys behind the admin API, over the memory store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import Conflict, InvalidRequest, NotFound, Unprocessable, UsageError
from appliance.graph.serve import ServeModel, build_serve_graph
from appliance.roles.key_file import read_key_file
from appliance.roles.node.keys import KeyStore
from appliance.roles.node.objects import ObjectStoreAdmin
from appliance.state.memory import MemoryStateStore
from appliance.web.guards import KeyRing


def graph(name: str = "g", *models: str) -> dict[str, Any]:
    return build_serve_graph([ServeModel(model=m, engine="mocker", served_name=m) for m in models or ("m",)], name=name)


@pytest.fixture
async def store() -> AsyncIterator[MemoryStateStore]:
    made = MemoryStateStore()
    yield made
    made.close()


async def test_apply_read_scale_delete(store: MemoryStateStore) -> None:
    admin = ObjectStoreAdmin(store)
    await admin.apply_objects([graph()])
    scaled = await admin.scale("worker", 3, None)
    assert [c["replicas"] for c in scaled["spec"]["components"]] == [1, 3]
    assert (await admin.read_object("dgd", "g"))["metadata"]["generation"] == 2
    assert [one["metadata"]["name"] for one in await admin.list_objects("dgd")] == ["g"]
    await admin.delete_object("dgd", "g")
    with pytest.raises(NotFound, match="g"):
        await admin.read_object("dgd", "g")
    actions = [event.action for event in await store.read(lambda reader: reader.events("dgd/g"))]
    assert actions == ["delete", "scale", "apply"]


async def test_all_manifests_are_applied_or_none(store: MemoryStateStore) -> None:
    bad = graph("bad")
    bad["spec"]["components"][0]["replicas"] = -1
    with pytest.raises(Unprocessable, match="replicas"):
        await ObjectStoreAdmin(store).apply_objects([graph("good"), bad])
    assert await ObjectStoreAdmin(store).list_objects("dgd") == []


async def test_an_ambiguous_component_asks_for_the_graph(store: MemoryStateStore) -> None:
    admin = ObjectStoreAdmin(store)
    await admin.apply_objects([graph("one"), graph("two")])
    with pytest.raises(UsageError, match="one, two"):
        await admin.scale("worker", 2, None)
    await admin.scale("worker", 2, "two")
    with pytest.raises(NotFound, match="worker"):
        await admin.scale("nothing", 2, None)


async def test_an_exact_component_name_wins_over_one_in_another_case(store: MemoryStateStore) -> None:
    admin = ObjectStoreAdmin(store)
    other = graph("two")
    other["spec"]["components"][1]["name"] = "Worker"
    await admin.apply_objects([graph("one"), other])
    assert (await admin.scale("Worker", 2, None))["metadata"]["name"] == "two"
    assert (await admin.scale("worker", 2, None))["metadata"]["name"] == "one"
    with pytest.raises(UsageError):
        await admin.scale("WORKER", 2, None)


async def test_a_key_opens_until_it_is_revoked(store: MemoryStateStore) -> None:
    keys = KeyStore(store)
    secret = (await keys.create_key("laptop"))["key"]
    assert KeyRing(k.sha256 for k in await keys.records()).admits(secret)
    assert secret not in str(await keys.list_keys())
    with pytest.raises(Conflict):
        await keys.create_key("laptop")
    await keys.delete_key("laptop")
    assert not KeyRing(k.sha256 for k in await keys.records())
    with pytest.raises(NotFound):
        await keys.delete_key("laptop")


@pytest.mark.parametrize("name", ["", "a" * 101, "line\nbreak"])
async def test_a_bad_key_name_is_refused(store: MemoryStateStore, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await KeyStore(store).create_key(name)


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# team\nsecret-one\n\nsecret-two\n")
    ring = KeyRing(key.sha256 for key in read_key_file(str(file)))
    assert ring.admits("secret-one")
    assert ring.admits("secret-two")
    assert not ring.admits("# team")
    file.write_text("# nothing\n")
    with pytest.raises(UsageError, match="no key"):
        read_key_file(str(file))
    with pytest.raises(UsageError, match="cannot read"):
        read_key_file(str(tmp_path / "absent"))

"""Orders for LoRA adapters, as one worker obeys them."""

from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.roles.worker_adapters import WorkerAdapters
from appliance.wire.bus_messages import AdapterAnswer, AdapterOrder


class Host:
    """An `AdapterHost` that refuses one name."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def load_adapter(self, name: str, path: str) -> None:
        self.calls.append(f"load {name}")
        if name == "bad":
            raise InvalidRequest("the engine cannot load the adapter 'bad'")

    async def unload_adapter(self, name: str) -> None:
        self.calls.append(f"unload {name}")


async def order(adapters: WorkerAdapters, *words: Any) -> AdapterAnswer:
    return msgspec.convert(await adapters.obey(msgspec.json.encode(AdapterOrder(*words)).decode()), AdapterAnswer)


async def test_loading_twice_is_loading_once() -> None:
    host = Host()
    adapters = WorkerAdapters(host)
    assert await order(adapters, "load", "poet", "/p") == AdapterAnswer({"poet": "/p"}, fresh=True)
    assert await order(adapters, "load", "poet", "/p") == AdapterAnswer({"poet": "/p"})
    other = await order(adapters, "load", "poet", "/q")
    assert (other.code, other.loaded) == ("conflict", {"poet": "/p"})
    assert host.calls == ["load poet"]


async def test_what_is_refused_is_told_and_not_kept() -> None:
    adapters = WorkerAdapters(Host())
    assert await order(adapters, "load", "bad", "/p") == AdapterAnswer(
        {}, code="invalid_request", error="the engine cannot load the adapter 'bad'"
    )
    await order(adapters, "load", "poet", "/p")
    unknown = await order(adapters, "unload", "critic")
    assert unknown.error == "no adapter 'critic' is loaded; loaded: poet"
    assert (await order(adapters, "unload", "poet")).loaded == {}

"""How a request finds its model: known, ready, and with the workers that it asks for."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import InvalidRequest, ModelNotFound, ModelNotReady
from appliance.core.generation import NO_PINS, Pins
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.records import ModelRecord
from appliance.core.requests import ModelCard
from appliance.core.settings import RequestSettings, RouterSettings
from appliance.frontend.account import Account
from appliance.frontend.catalog import Catalog
from appliance.frontend.ready_models import ReadyModels
from appliance.routing.router import Router

M, POET = ModelName("m"), ModelName("poet")
CARD = ModelCard(name=M, context_length=100, engine="fake", max_num_seqs=4, io="text")
WORKER = WorkerId("w")


def account() -> Account:
    return Account(id=RequestId("r"), endpoint="chat_completions", started=0.0)


async def ask_nobody(_: str) -> list[int]:
    raise NotImplementedError


class Scene:
    def __init__(self) -> None:
        self.catalog, self.router = Catalog(), Router(RouterSettings())
        self.ready = ReadyModels(self.catalog, self.router, lambda: RequestSettings(hold_s=3))
        self.tell("starting")

    def tell(self, phase: str, reason: str = "") -> None:
        """Records of a model and of an adapter for it."""
        self.catalog.set_records(
            [
                ModelRecord(name=M, phase="ready", created=0),
                ModelRecord(name=POET, phase=phase, reason=reason, created=0, base=M),  # type: ignore[arg-type]  # parametrised
            ]
        )

    async def join(self) -> None:
        await self.catalog.learn(CARD, {}, ask_nobody)
        self.router.add(WORKER, CARD)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_an_unknown_name_is_refused(scene: Scene) -> None:
    with pytest.raises(ModelNotFound, match="models here: m, poet"):
        await scene.ready.find("n", account(), NO_PINS)


async def test_a_request_is_held_until_a_worker_comes(scene: Scene) -> None:
    one = account()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            served = await scene.ready.find(M, one, NO_PINS)
            assert served.card is CARD

        await wait_all_tasks_blocked()
        assert one.model == M, "held requests count for their model"
        await scene.join()


async def test_nobody_comes_in_time(scene: Scene, autojump_clock: MockClock) -> None:
    with pytest.raises(ModelNotReady, match="after 3 s"):
        await scene.ready.find(M, account(), NO_PINS)


async def test_an_adapter_is_computed_by_its_base_model(scene: Scene) -> None:
    await scene.join()
    one = account()
    assert (await scene.ready.find(POET, one, NO_PINS)).card is CARD
    assert one.model == M
    scene.tell("failed", reason="no such file")
    with pytest.raises(ModelNotReady, match="no such file"):
        await scene.ready.find(POET, one, NO_PINS)


async def test_pinned_workers_must_be_there(scene: Scene) -> None:
    await scene.join()
    number = instance_number(WORKER)
    await scene.ready.find(M, account(), Pins(worker=number))
    for pins in (Pins(worker=number + 1), Pins(prefill=number + 1)):
        with pytest.raises(InvalidRequest, match="no worker instance"):
            await scene.ready.find(M, account(), pins)


async def test_a_vanished_model_is_forgotten(scene: Scene) -> None:
    await scene.join()
    scene.catalog.set_records([])
    with pytest.raises(ModelNotFound, match="models here: none"):
        await scene.ready.find(M, account(), NO_PINS)

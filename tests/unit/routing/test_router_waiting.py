"""Requests that wait: for a model that is not ready, in the queue of a busy one, and what ends the wait."""

import pytest
import trio
import trio.testing

from appliance.core.errors import ModelNotReady
from appliance.core.generation import RoutingHints
from appliance.core.identity import ModelName, WorkerId
from appliance.core.settings import RouterSettings
from appliance.routing.router import Placement, Router
from tests.helpers.routers import CAPACITY, MODEL, make_kv_router, make_router, routing_request, worker_card


async def test_held_requests_go_on_when_a_worker_arrives(autojump_clock: trio.testing.MockClock) -> None:
    router = make_router("random")
    done = []

    async def wait() -> None:
        await router.wait_ready(MODEL, 60)
        done.append(trio.current_time())

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await trio.sleep(5)
        router.add(WorkerId("a"), worker_card())
    assert done == [start + 5] * 3


async def test_hold_time_ends_in_not_ready(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ModelNotReady, match="60 s"):
        await make_router("random").wait_ready(MODEL, 60)


async def test_held_requests_end_when_waiting_is_in_vain(autojump_clock: trio.testing.MockClock) -> None:
    given_up = False

    def check_hope(model: ModelName) -> None:
        if given_up:
            raise ModelNotReady("it failed")

    router = Router(RouterSettings(mode="random"), check_hope)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            nonlocal given_up
            await trio.sleep(5)
            router.look_again()  # still hopeful: it goes on waiting
            await trio.sleep(5)
            given_up = True
            router.look_again()

        nursery.start_soon(give_up)
        with pytest.raises(ModelNotReady, match="it failed"):
            await router.wait_ready(MODEL, 60)
    assert trio.current_time() == start + 10


async def test_a_hopeless_model_with_a_worker_is_served() -> None:
    def check_hope(model: ModelName) -> None:
        raise ModelNotReady("it failed")

    router = Router(RouterSettings(mode="random"), check_hope)
    router.add(WorkerId("a"), worker_card())
    await router.wait_ready(MODEL, 60)


async def test_a_free_place_takes_no_checkpoint() -> None:
    router = make_kv_router("a")
    with trio.testing.assert_no_checkpoints(), await router.place(routing_request(tokens=20)) as placement:
        placement.prefill_complete()


async def test_requests_wait_in_order_until_prompts_are_computed(autojump_clock: trio.testing.MockClock) -> None:
    router = make_kv_router("a", overlap_score_credit=0.0)
    order: list[str] = []
    placed: dict[str, Placement] = {}

    async def wait(name: str, jump: float) -> None:
        placed[name] = await router.place(routing_request(tokens=50, hints=RoutingHints(priority_jump_s=jump)))
        order.append(name)

    first = await router.place(routing_request(tokens=41))  # 41 > 4 * 10
    async with trio.open_nursery() as nursery:
        for name, jump in (("calm", 0.0), ("later", 0.0), ("urgent", 100.0)):
            nursery.start_soon(wait, name, jump)
            await trio.testing.wait_all_tasks_blocked()
        assert router.queued()["decode"] == (3, 150)
        first.prefill_complete()
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["urgent"]
        placed["urgent"].__exit__(None, None, None)  # an end before the first token counts too
        await trio.testing.wait_all_tasks_blocked()
        placed["calm"].prefill_complete()
    assert order == ["urgent", "calm", "later"]
    assert router.queued()["decode"] == (0, 0)


async def test_leaving_the_queue_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    router = make_kv_router("a")
    with await router.place(routing_request(tokens=41)):
        with trio.move_on_after(5):
            await router.place(routing_request(tokens=50))
        assert router.queued()["decode"] == (0, 0)
    assert router.load() == {"a": 0}


@pytest.mark.parametrize("granted_first", [True, False])
async def test_a_grant_in_the_step_of_the_cancellation_is_freed(granted_first: bool) -> None:
    router = make_kv_router("a")
    first = await router.place(routing_request(tokens=41))
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope, await router.place(routing_request(tokens=50)):
                await trio.sleep_forever()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        if granted_first:
            first.__exit__(None, None, None)
            scope.cancel()
        else:
            scope.cancel()
            first.__exit__(None, None, None)
    assert router.load() == {"a": 0}
    assert router.loads()[0].prefill_tokens == 0


async def test_what_waits_fails_when_the_last_worker_goes(autojump_clock: trio.testing.MockClock) -> None:
    router = make_kv_router("a")
    await router.place(routing_request(tokens=41))
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ModelNotReady):
                await router.place(routing_request(tokens=50))

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        router.withdraw(WorkerId("a"))


async def test_a_new_worker_takes_what_waits(autojump_clock: trio.testing.MockClock) -> None:
    router = make_kv_router("a")
    await router.place(routing_request(tokens=41))
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with await router.place(routing_request(tokens=50)) as placement:
                assert placement.worker == "b"

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        router.add(WorkerId("b"), worker_card(**CAPACITY))


async def test_enough_workers_must_come_first(autojump_clock: trio.testing.MockClock) -> None:
    router = make_router("random", "a", min_initial_workers=2)
    assert router.ready_workers(MODEL) == 0
    with pytest.raises(ModelNotReady):
        await router.wait_ready(MODEL, 1)
    router.add(WorkerId("b"), worker_card())
    router.withdraw(WorkerId("b"))
    assert router.ready_workers(MODEL) == 1

"""Placement, load accounting and holding requests for a model that is not ready."""

from collections import Counter

import pytest
import trio

from appliance.core.errors import InvalidRequest, ModelNotReady, UsageError
from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.requests import ModelCard
from appliance.routing.router import Router

MODEL = ModelName("m")


def card(slots: int = 4) -> ModelCard:
    return ModelCard(name=MODEL, context_length=100, engine="mocker", max_num_seqs=slots)


def router(mode: str, *workers: str) -> Router:
    made = Router(mode)
    for worker in workers:
        made.add(WorkerId(worker), card())
    return made


@pytest.mark.parametrize("mode", ["round-robin", "least-loaded"])
def test_equal_workers_share_evenly(mode: str) -> None:
    r = router(mode, "a", "b", "c")
    counts: Counter[str] = Counter()
    for _ in range(30):
        with r.place(MODEL) as placement:
            counts[placement.worker] += 1
    assert set(counts.values()) == {10}


def test_random_reaches_every_worker() -> None:
    r = router("random", "a", "b", "c")
    seen = set()
    for _ in range(200):
        with r.place(MODEL) as placement:
            seen.add(placement.worker)
    assert seen == {"a", "b", "c"}


def test_least_loaded_weighs_by_slots() -> None:
    r = Router("least-loaded")
    r.add(WorkerId("small"), card(1))
    r.add(WorkerId("big"), card(8))
    held = [r.place(MODEL) for _ in range(9)]
    taken = Counter(block.__enter__().worker for block in held)
    assert taken == {"big": 8, "small": 1}
    for block in held:
        block.__exit__(None, None, None)
    assert set(r.load().values()) == {0}


def test_load_is_freed_when_the_block_is_left_by_an_error() -> None:
    r = router("least-loaded", "a")
    with pytest.raises(RuntimeError), r.place(MODEL):
        raise RuntimeError
    assert r.load() == {"a": 0}


def test_avoided_workers_are_taken_only_when_alone() -> None:
    r = router("least-loaded", "a", "b")
    for _ in range(5):
        with r.place(MODEL, avoid={WorkerId("a")}) as placement:
            assert placement.worker == "b"
    r.withdraw(WorkerId("b"))
    with r.place(MODEL, avoid={WorkerId("a")}) as placement:
        assert placement.worker == "a"


def test_no_worker_is_an_error_that_may_be_retried() -> None:
    with pytest.raises(ModelNotReady) as caught, router("random").place(MODEL):
        pass
    assert caught.value.retryable
    assert caught.value.retry_after_s


def test_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="least-loaded"), router("best", "a").place(MODEL):
        pass


async def test_held_requests_go_on_when_a_worker_arrives(autojump_clock: trio.testing.MockClock) -> None:
    r = router("random")
    done = []

    async def wait() -> None:
        await r.wait_ready(MODEL, 60)
        done.append(trio.current_time())

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await trio.sleep(5)
        r.add(WorkerId("a"), card())
    assert done == [start + 5] * 3


async def test_hold_time_ends_in_not_ready(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ModelNotReady, match="60 s"):
        await router("random").wait_ready(MODEL, 60)


def test_a_pinned_worker_is_the_only_choice() -> None:
    r = router("least-loaded", "a", "b", "c")
    pin = instance_number(WorkerId("b"))
    with r.place(MODEL, pin=pin) as first, r.place(MODEL, avoid={WorkerId("b")}, pin=pin) as second:
        assert (first.worker, second.worker) == ("b", "b")
        assert r.load() == {"a": 0, "b": 2, "c": 0}
    assert set(r.load().values()) == {0}
    r.check_instance(MODEL, pin)


def test_a_pin_on_nobody_is_the_clients_mistake() -> None:
    r = router("least-loaded", "a")
    r.add(WorkerId("other"), ModelCard(name=ModelName("other"), context_length=100, engine="mocker"))
    for number in (instance_number(WorkerId("other")), 0, 2**64 - 1):
        with pytest.raises(InvalidRequest, match=str(instance_number(WorkerId("a")))), r.place(MODEL, pin=number):
            pass
        with pytest.raises(InvalidRequest):
            r.check_instance(MODEL, number)
    r.withdraw(WorkerId("a"))
    with pytest.raises(ModelNotReady):
        r.check_instance(MODEL, instance_number(WorkerId("a")))


async def test_held_requests_end_when_waiting_is_in_vain(autojump_clock: trio.testing.MockClock) -> None:
    given_up = False

    def check_hope(model: ModelName) -> None:
        if given_up:
            raise ModelNotReady("it failed")

    r = Router("random", check_hope)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            nonlocal given_up
            await trio.sleep(5)
            r.look_again()  # still hopeful: it goes on waiting
            await trio.sleep(5)
            given_up = True
            r.look_again()

        nursery.start_soon(give_up)
        with pytest.raises(ModelNotReady, match="it failed"):
            await r.wait_ready(MODEL, 60)
    assert trio.current_time() == start + 10


async def test_a_hopeless_model_with_a_worker_is_served() -> None:
    def check_hope(model: ModelName) -> None:
        raise ModelNotReady("it failed")

    r = Router("random", check_hope)
    r.add(WorkerId("a"), card())
    await r.wait_ready(MODEL, 60)

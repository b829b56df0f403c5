"""Split requests: what each half is asked for, and what becomes of them when a half is lost at any stage."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import InvalidRequest, ModelNotReady
from appliance.core.generation import Pins
from appliance.core.identity import WorkerId, instance_number
from appliance.core.requests import KvTransfer
from appliance.core.settings import RequestSettings
from tests.helpers.answer_scene import PROMPT
from tests.helpers.answers import ID, chunk
from tests.helpers.split_scene import DECODE, HANDOVER, PREFILL, split_scene


async def test_decode_gets_what_prefill_hands_over() -> None:
    async with split_scene() as it:
        (worker, request) = it.stage.asked[0]
        assert worker in PREFILL
        assert request.kv_transfer == KvTransfer(phase="prefill")
        assert (request.token_ids, request.stop.max_tokens, request.stop.min_tokens) == (PROMPT, 1, 0)
        assert (request.logprobs, request.sampling.seed, request.id) == (None, 7, ID)
        it.stage.hand_over(HANDOVER)
        assert it.stage.open_streams == 0, "the prefill worker is free at once"
        assert sum(it.router.load().values()) == 0
        await wait_all_tasks_blocked()
        (worker, request) = it.stage.asked[1]
        assert worker in DECODE
        assert request.kv_transfer == KvTransfer(phase="decode", params=HANDOVER)
        assert (request.stop.max_tokens, request.stop.min_tokens, request.logprobs) == (10, 4, 2)
        assert it.answer.produced() == 0, "the token of the prefill half is not shown"
        await it.finish()
        assert it.account.prefill_workers == [it.stage.asked[0][0]]
        assert it.account.workers == [worker]
        ids = it.account.routed.worker_ids()
        assert ids["prefill_worker_id"] == instance_number(it.stage.asked[0][0])
        assert ids["decode_worker_id"] == instance_number(worker)
        assert it.account.routed.prefilled_at is not None


async def test_prefill_that_hands_nothing_over_leaves_all_to_decode() -> None:
    async with split_scene() as it:
        it.stage.hand_over(None)
        await wait_all_tasks_blocked()
        assert it.stage.asked[1][1].kv_transfer is None
        await it.finish()


async def test_lost_prefill_is_run_again_elsewhere() -> None:
    async with split_scene() as it:
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "p"]
        assert it.stage.asked[0][0] != it.stage.asked[1][0]
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        assert it.stage.asked[2][1].kv_transfer == KvTransfer(phase="decode", params=HANDOVER)
        await it.finish()


async def test_attempts_at_prefill_are_limited() -> None:
    async with split_scene(settings=RequestSettings(migration_limit=0)) as it:
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d"]
        await it.finish()


async def test_request_that_prefill_refuses_is_refused() -> None:
    async with split_scene() as it:
        it.stage.lose(InvalidRequest("the prompt is too long"))
        await it.ended.wait()
        assert isinstance(it.error, InvalidRequest)
        assert it.kinds == ["p"]


async def test_prefill_worker_without_a_link_is_passed_over() -> None:
    async with split_scene(away=("p2",)) as it:
        it.stage.dead = {WorkerId("p1")}
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d"]
        await it.finish()


async def test_pinned_prefill_worker_is_taken_or_the_request_fails() -> None:
    pins = Pins(prefill=instance_number(WorkerId("p2")))
    async with split_scene(pins=pins) as it:
        assert it.stage.asked[0][0] == "p2"
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        await it.finish()
    async with split_scene(pins=pins, away=("p2",)) as it:
        await it.ended.wait()
        assert isinstance(it.error, InvalidRequest)
        assert it.stage.asked == []


async def test_decode_lost_in_the_middle_is_prefilled_again_with_its_tokens() -> None:
    async with split_scene() as it:
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        it.stage.say("abc")
        it.stage.lose()
        await wait_all_tasks_blocked()
        worker, request = it.stage.asked[2]
        assert worker in PREFILL
        assert (request.token_ids, request.stop.max_tokens) == ([*PROMPT, *b"abc"], 1)
        it.stage.hand_over({"blocks": [6]})
        await wait_all_tasks_blocked()
        worker, request = it.stage.asked[3]
        assert worker in set(DECODE) - {it.stage.asked[1][0]}
        assert request.token_ids == [*PROMPT, *b"abc"]
        assert request.kv_transfer == KvTransfer(phase="decode", params={"blocks": [6]})
        assert request.stop.max_tokens == 7
        await it.finish()
        assert it.answer.usage().completion_tokens == 7


@pytest.mark.parametrize("returns", [True, False])
async def test_handover_waits_for_a_decode_worker(returns: bool, autojump_clock: MockClock) -> None:
    async with split_scene(settings=RequestSettings(hold_s=5)) as it:
        it.leave(*DECODE)
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        assert it.kinds == ["p"]
        if not returns:
            await it.ended.wait()
            assert isinstance(it.error, ModelNotReady)
            return
        it.join("d3", role="decode")
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d"]
        assert it.stage.asked[1][1].kv_transfer == KvTransfer(phase="decode", params=HANDOVER)
        await it.finish()


async def test_silent_prefill_worker_is_left_after_the_patience(autojump_clock: MockClock) -> None:
    async with split_scene(settings=RequestSettings(first_token_s=5)) as it:
        await trio.sleep(7)
        assert it.kinds == ["p", "p"]
        it.stage.hand_over(HANDOVER)
        await trio.sleep(4)
        assert it.kinds == ["p", "p", "d"], "the patience with decode begins when prefill is done"
        await it.finish()


@pytest.mark.parametrize("stage", ["prefill", "decode", "between"])
async def test_client_that_goes_leaves_nothing_behind(stage: str) -> None:
    async with split_scene() as it:
        if stage != "prefill":
            it.stage.hand_over(HANDOVER)
        if stage == "decode":
            await wait_all_tasks_blocked()
            assert it.stage.open_streams == 1


async def test_choices_are_prefilled_at_once() -> None:
    async with split_scene(n=3) as it:
        assert it.kinds == ["p"] * 3
        for number in range(3):
            it.stage.hand_over({"blocks": [number]}, stream=number)
        await wait_all_tasks_blocked()
        halves = [request.kv_transfer for _, request in it.stage.asked[3:]]
        assert sorted(half.params["blocks"] for half in halves if half is not None) == [[0], [1], [2]]
        for sink in it.stage.sinks[3:]:
            sink.on_chunk(chunk("x", "stop"))
        await it.ended.wait()
        assert it.error is None


async def test_one_choice_that_is_refused_ends_the_prefill_of_the_others() -> None:
    async with split_scene(n=3) as it:
        it.stage.sinks[1].on_error(InvalidRequest("no"))
        await it.ended.wait()
        assert isinstance(it.error, InvalidRequest)
        assert it.stage.open_streams == 0

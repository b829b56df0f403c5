"""Split requests for which there is no prefill worker, or none that works: who does it all, who waits, who fails."""

from dataclasses import replace
from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import ApplianceError, EngineFailed, ModelNotReady
from appliance.core.settings import RequestSettings
from tests.helpers.answer_scene import IN_TURN
from tests.helpers.split_scene import HANDOVER, PREFILL, split_scene


async def test_without_prefill_workers_decode_does_it_all() -> None:
    async with split_scene(away=PREFILL) as it:
        assert it.kinds == ["d"]
        assert it.stage.asked[0][1].kv_transfer is None
        await it.finish()


@pytest.mark.parametrize("why", [{"router": replace(IN_TURN, enforce_disagg=True)}, {"needs_prefill": True}])
@pytest.mark.parametrize("returns", [True, False])
async def test_split_that_must_be_waits_for_a_prefill_worker(
    returns: bool, why: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with split_scene(settings=RequestSettings(hold_s=5), away=PREFILL, **why) as it:
        assert it.stage.asked == []
        if not returns:
            await it.ended.wait()
            assert isinstance(it.error, ModelNotReady)
            return
        it.join("p1", role="prefill")
        await wait_all_tasks_blocked()
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d"]
        await it.finish()


@pytest.mark.parametrize("error", [None, EngineFailed("no")])
async def test_decode_does_it_all_when_every_prefill_worker_fails(error: ApplianceError | None) -> None:
    async with split_scene() as it:
        for _ in PREFILL:
            it.stage.lose(error)
            await wait_all_tasks_blocked()
        assert it.kinds == ["p", "p", "d"]
        assert it.stage.asked[2][1].kv_transfer is None
        await it.finish()
        ids = it.account.routed.worker_ids()
        assert ids["prefill_worker_id"] == ids["decode_worker_id"], "decode computed the prompt"


async def test_enforced_split_fails_with_its_prefill_workers() -> None:
    async with split_scene(router=replace(IN_TURN, enforce_disagg=True)) as it:
        for _ in PREFILL:
            it.stage.lose()
            await wait_all_tasks_blocked()
        await it.ended.wait()
        assert it.kinds == ["p", "p"]
        assert isinstance(it.error, ModelNotReady)


async def test_enforced_split_leaves_what_prefill_failed_to_aggregated_workers() -> None:
    async with split_scene(router=replace(IN_TURN, enforce_disagg=True)) as it:
        it.join("a1", role="aggregated")
        for _ in PREFILL:
            it.stage.lose()
            await wait_all_tasks_blocked()
        assert it.kinds == ["p", "p", "a"]
        assert it.stage.asked[2][1].kv_transfer is None
        await it.finish()


async def test_enforced_split_without_prefill_workers_runs_on_aggregated_ones() -> None:
    async with split_scene(router=replace(IN_TURN, enforce_disagg=True), away=PREFILL) as it:
        assert it.stage.asked == []
        it.join("a1", role="aggregated")
        await wait_all_tasks_blocked()
        assert it.kinds == ["a"]
        await it.finish()


async def test_decode_that_computes_no_prompts_is_not_asked_when_prefill_failed() -> None:
    async with split_scene(needs_prefill=True) as it:
        for _ in PREFILL:
            it.stage.lose()
            await wait_all_tasks_blocked()
        await it.ended.wait()
        assert it.kinds == ["p", "p"]
        assert isinstance(it.error, ModelNotReady)

"""Split requests whose halves run at once and meet in a room of the prefill worker."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import EngineFailed, WorkerTimeout
from appliance.core.settings import RequestSettings
from appliance.frontend.split_runs import draw_room
from tests.helpers.split_scene import BOOTSTRAP_PORT, split_scene


async def test_halves_that_meet_run_at_once() -> None:
    async with split_scene(meets=True) as it:
        assert it.kinds == ["p", "d"]
        first, second = (request.kv_transfer for _, request in it.stage.asked)
        assert first is not None
        assert second is not None
        assert (first.phase, second.phase) == ("prefill", "decode")
        assert (first.bootstrap_host, first.bootstrap_port) == ("127.0.0.1", BOOTSTRAP_PORT)
        assert first.bootstrap_room == second.bootstrap_room
        assert first.bootstrap_room is not None
        assert 0 <= first.bootstrap_room < 2**63
        it.stage.hand_over(None, stream=0)
        assert it.stage.open_streams == 1
        await it.finish()


async def test_lost_meeting_is_tried_again_with_another_prefill_worker() -> None:
    async with split_scene(meets=True) as it:
        it.stage.sinks[0].on_error(EngineFailed("no"))
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d", "p", "d"]
        assert it.stage.asked[0][0] != it.stage.asked[2][0]
        assert it.stage.open_streams == 2
        it.stage.sinks[2].on_error(EngineFailed("no"))
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d", "p", "d", "d"], "no prefill worker is left"
        assert it.stage.asked[4][1].kv_transfer is None
        await it.finish()


async def test_prefill_lost_after_the_first_token_does_no_harm() -> None:
    async with split_scene(meets=True) as it:
        it.stage.say("a")
        it.stage.sinks[0].on_error(EngineFailed("no"))
        await wait_all_tasks_blocked()
        assert it.kinds == ["p", "d"]
        await it.finish()


async def test_meeting_that_never_comes_about_ends_after_the_patience(autojump_clock: MockClock) -> None:
    async with split_scene(meets=True, settings=RequestSettings(first_token_s=5, migration_limit=1)) as it:
        await trio.sleep(20)
        await it.ended.wait()
        assert isinstance(it.error, WorkerTimeout)
        assert it.stage.open_streams == 0


def test_rooms_lead_to_the_rank_of_the_placement() -> None:
    rooms = [draw_room(rank=2, ranks=3) for _ in range(200)]
    assert {room % 3 for room in rooms} == {2}
    assert all(0 <= room < 2**63 for room in rooms)
    assert len(set(rooms)) == 200

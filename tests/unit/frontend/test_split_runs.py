"""Split requests: what each half is asked for, and what becomes of them when a half is lost at any stage."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest, ModelNotReady, WorkerTimeout
from appliance.core.generation import NO_PINS, Pins
from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.requests import EngineRequest, KvTransfer, ModelCard, Sampling, StopConditions
from appliance.core.settings import RequestSettings, RouterSettings
from appliance.frontend.accounts import Account, Accounts
from appliance.frontend.choice_runs import AnswerRun
from appliance.frontend.split_runs import draw_room
from appliance.frontend.vigil import Vigil
from appliance.routing.router import Router
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE
from tests.fakes.client import RecordingClient
from tests.fakes.stage import Stage
from tests.helpers.answers import ID, chat_request, chunk, make_answer

MODEL = ModelName("m")
PROMPT = [1, 2, 3]
HANDOVER = {"blocks": [4, 5]}
PREFILL, DECODE = ("p1", "p2"), ("d1", "d2")
ROUTER = RouterSettings(mode="round-robin")


class Scene:
    """One answer over two prefill and two decode workers."""

    def __init__(
        self,
        settings: RequestSettings,
        router: RouterSettings,
        bootstrap: int,
        pins: Pins,
        n: int,
        needs_prefill: bool,
    ) -> None:
        self.client, self.stage, self.router = RecordingClient(), Stage(), Router(router)
        for name in PREFILL:
            self.add(name, "prefill", bootstrap)
        for name in DECODE:
            self.add(name, "decode", needs_prefill=needs_prefill)
        self.answer = make_answer(chat_request(stream=True, n=n), self.client)
        self.account = Account(id=ID, endpoint="chat_completions", started=0.0, model="m")
        self.ended = trio.Event()
        self.vigil = Vigil()
        self.error: ApplianceError | None = None
        stop = StopConditions(max_tokens=10, min_tokens=4)
        asked = EngineRequest(id=ID, model=MODEL, token_ids=PROMPT, stop=stop, sampling=Sampling(seed=7), logprobs=2)
        self._run = AnswerRun(
            self.answer,
            [asked] * n,
            self.account,
            router=self.router,
            transport=self.stage,
            accounts=Accounts(Metrics(TABLE)),
            settings=settings,
            vigil=self.vigil,
            pins=pins,
        )

    def add(self, name: str, role: Any, bootstrap_port: int = 0, needs_prefill: bool = False) -> None:
        card = ModelCard(
            name=MODEL,
            context_length=100,
            engine="fake",
            max_num_seqs=4,
            role=role,
            bootstrap_host="127.0.0.1" if bootstrap_port else "",
            bootstrap_port=bootstrap_port,
            needs_prefill=needs_prefill,
        )
        self.router.add(WorkerId(name), card)

    def leave(self, *names: str) -> None:
        for name in names:
            self.router.withdraw(WorkerId(name))

    async def run(self) -> None:
        try:
            await self._run.run()
        except ApplianceError as error:
            self.error = error
        self.ended.set()

    @property
    def workers(self) -> list[str]:
        """Who was asked, in order, by kind."""
        return [worker[0] for worker, _ in self.stage.asked]

    async def finish(self) -> None:
        self.stage.say("done", last=True)
        await self.ended.wait()
        assert self.error is None
        assert b"error" not in self.client.body


@asynccontextmanager
async def scene(
    *,
    settings: RequestSettings | None = None,
    router: RouterSettings = ROUTER,
    bootstrap: int = 0,
    pins: Pins = NO_PINS,
    n: int = 1,
    away: tuple[str, ...] = (),
    needs_prefill: bool = False,
) -> AsyncGenerator[Scene, None]:
    made = Scene(settings or RequestSettings(), router, bootstrap, pins, n, needs_prefill)
    made.leave(*away)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        nursery.start_soon(made.vigil.run)
        await wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()
    assert made.stage.open_streams == 0, "a stream was left open"
    assert set(made.router.load().values()) <= {0}, "a place was left taken"


async def test_decode_gets_what_prefill_hands_over() -> None:
    async with scene() as it:
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
    async with scene() as it:
        it.stage.hand_over(None)
        await wait_all_tasks_blocked()
        assert it.stage.asked[1][1].kv_transfer is None
        await it.finish()


async def test_without_prefill_workers_decode_does_it_all() -> None:
    async with scene(away=PREFILL) as it:
        assert it.workers == ["d"]
        assert it.stage.asked[0][1].kv_transfer is None
        await it.finish()


@pytest.mark.parametrize("returns", [True, False])
async def test_enforced_split_waits_for_a_prefill_worker(returns: bool, autojump_clock: MockClock) -> None:
    settings = RequestSettings(hold_s=5)
    async with scene(settings=settings, router=replace(ROUTER, enforce_disagg=True), away=PREFILL) as it:
        assert it.stage.asked == []
        if not returns:
            await it.ended.wait()
            assert isinstance(it.error, ModelNotReady)
            return
        it.add("p1", "prefill")
        await wait_all_tasks_blocked()
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        await it.finish()


async def test_lost_prefill_is_run_again_elsewhere() -> None:
    async with scene() as it:
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "p"]
        assert it.stage.asked[0][0] != it.stage.asked[1][0]
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        assert it.stage.asked[2][1].kv_transfer == KvTransfer(phase="decode", params=HANDOVER)
        await it.finish()


@pytest.mark.parametrize("error", [None, EngineFailed("no")])
async def test_decode_does_it_all_when_every_prefill_worker_fails(error: ApplianceError | None) -> None:
    async with scene() as it:
        for _ in PREFILL:
            it.stage.lose(error)
            await wait_all_tasks_blocked()
        assert it.workers == ["p", "p", "d"]
        assert it.stage.asked[2][1].kv_transfer is None
        await it.finish()
        ids = it.account.routed.worker_ids()
        assert ids["prefill_worker_id"] == ids["decode_worker_id"], "decode computed the prompt"


async def test_enforced_split_fails_with_its_prefill_workers() -> None:
    async with scene(router=replace(ROUTER, enforce_disagg=True)) as it:
        for _ in PREFILL:
            it.stage.lose()
            await wait_all_tasks_blocked()
        await it.ended.wait()
        assert it.workers == ["p", "p"]
        assert isinstance(it.error, ModelNotReady)


async def test_enforced_split_leaves_what_prefill_failed_to_aggregated_workers() -> None:
    async with scene(router=replace(ROUTER, enforce_disagg=True)) as it:
        it.add("a1", "aggregated")
        for _ in PREFILL:
            it.stage.lose()
            await wait_all_tasks_blocked()
        assert it.workers == ["p", "p", "a"]
        assert it.stage.asked[2][1].kv_transfer is None
        await it.finish()


async def test_enforced_split_without_prefill_workers_runs_on_aggregated_ones() -> None:
    async with scene(router=replace(ROUTER, enforce_disagg=True), away=PREFILL) as it:
        assert it.stage.asked == []
        it.add("a1", "aggregated")
        await wait_all_tasks_blocked()
        assert it.workers == ["a"]
        await it.finish()


@pytest.mark.parametrize("returns", [True, False])
async def test_decode_that_computes_no_prompts_waits_for_a_prefill_worker(
    returns: bool, autojump_clock: MockClock
) -> None:
    async with scene(settings=RequestSettings(hold_s=5), away=PREFILL, needs_prefill=True) as it:
        assert it.stage.asked == []
        if not returns:
            await it.ended.wait()
            assert isinstance(it.error, ModelNotReady)
            return
        it.add("p1", "prefill")
        await wait_all_tasks_blocked()
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d"]
        await it.finish()


async def test_decode_that_computes_no_prompts_is_not_asked_when_prefill_failed() -> None:
    async with scene(needs_prefill=True) as it:
        for _ in PREFILL:
            it.stage.lose()
            await wait_all_tasks_blocked()
        await it.ended.wait()
        assert it.workers == ["p", "p"]
        assert isinstance(it.error, ModelNotReady)


async def test_attempts_at_prefill_are_limited() -> None:
    async with scene(settings=RequestSettings(migration_limit=0)) as it:
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d"]
        await it.finish()


async def test_request_that_prefill_refuses_is_refused() -> None:
    async with scene() as it:
        it.stage.lose(InvalidRequest("the prompt is too long"))
        await it.ended.wait()
        assert isinstance(it.error, InvalidRequest)
        assert it.workers == ["p"]


async def test_prefill_worker_without_a_link_is_passed_over() -> None:
    async with scene(away=("p2",)) as it:
        it.stage.dead = {WorkerId("p1")}
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d"]
        await it.finish()


async def test_pinned_prefill_worker_is_taken_or_the_request_fails() -> None:
    pins = Pins(prefill=instance_number(WorkerId("p2")))
    async with scene(pins=pins) as it:
        assert it.stage.asked[0][0] == "p2"
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        await it.finish()
    async with scene(pins=pins, away=("p2",)) as it:
        await it.ended.wait()
        assert isinstance(it.error, InvalidRequest)
        assert it.stage.asked == []


async def test_decode_lost_in_the_middle_is_prefilled_again_with_its_tokens() -> None:
    async with scene() as it:
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
    async with scene(settings=RequestSettings(hold_s=5)) as it:
        it.leave(*DECODE)
        it.stage.hand_over(HANDOVER)
        await wait_all_tasks_blocked()
        assert it.workers == ["p"]
        if not returns:
            await it.ended.wait()
            assert isinstance(it.error, ModelNotReady)
            return
        it.add("d3", "decode")
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d"]
        assert it.stage.asked[1][1].kv_transfer == KvTransfer(phase="decode", params=HANDOVER)
        await it.finish()


async def test_silent_prefill_worker_is_left_after_the_patience(autojump_clock: MockClock) -> None:
    async with scene(settings=RequestSettings(first_token_s=5)) as it:
        await trio.sleep(7)
        assert it.workers == ["p", "p"]
        it.stage.hand_over(HANDOVER)
        await trio.sleep(4)
        assert it.workers == ["p", "p", "d"], "the patience with decode begins when prefill is done"
        await it.finish()


@pytest.mark.parametrize("stage", ["prefill", "decode", "between"])
async def test_client_that_goes_leaves_nothing_behind(stage: str) -> None:
    async with scene() as it:
        if stage != "prefill":
            it.stage.hand_over(HANDOVER)
        if stage == "decode":
            await wait_all_tasks_blocked()
            assert it.stage.open_streams == 1


async def test_choices_are_prefilled_at_once() -> None:
    async with scene(n=3) as it:
        assert it.workers == ["p"] * 3
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
    async with scene(n=3) as it:
        it.stage.sinks[1].on_error(InvalidRequest("no"))
        await it.ended.wait()
        assert isinstance(it.error, InvalidRequest)
        assert it.stage.open_streams == 0


async def test_halves_that_meet_run_at_once() -> None:
    async with scene(bootstrap=8998) as it:
        assert it.workers == ["p", "d"]
        first, second = (request.kv_transfer for _, request in it.stage.asked)
        assert first is not None
        assert second is not None
        assert (first.phase, second.phase) == ("prefill", "decode")
        assert (first.bootstrap_host, first.bootstrap_port) == ("127.0.0.1", 8998)
        assert first.bootstrap_room == second.bootstrap_room
        assert first.bootstrap_room is not None
        assert 0 <= first.bootstrap_room < 2**63
        it.stage.hand_over(None, stream=0)
        assert it.stage.open_streams == 1
        await it.finish()


async def test_lost_meeting_is_tried_again_with_another_prefill_worker() -> None:
    async with scene(bootstrap=8998) as it:
        it.stage.sinks[0].on_error(EngineFailed("no"))
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d", "p", "d"]
        assert it.stage.asked[0][0] != it.stage.asked[2][0]
        assert it.stage.open_streams == 2
        it.stage.sinks[2].on_error(EngineFailed("no"))
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d", "p", "d", "d"], "no prefill worker is left"
        assert it.stage.asked[4][1].kv_transfer is None
        await it.finish()


async def test_prefill_lost_after_the_first_token_does_no_harm() -> None:
    async with scene(bootstrap=8998) as it:
        it.stage.say("a")
        it.stage.sinks[0].on_error(EngineFailed("no"))
        await wait_all_tasks_blocked()
        assert it.workers == ["p", "d"]
        await it.finish()


async def test_meeting_that_never_comes_about_ends_after_the_patience(autojump_clock: MockClock) -> None:
    async with scene(bootstrap=8998, settings=RequestSettings(first_token_s=5, migration_limit=1)) as it:
        await trio.sleep(20)
        await it.ended.wait()
        assert isinstance(it.error, WorkerTimeout)
        assert it.stage.open_streams == 0


def test_rooms_lead_to_the_rank_of_the_placement() -> None:
    rooms = [draw_room(rank=2, ranks=3) for _ in range(200)]
    assert {room % 3 for room in rooms} == {2}
    assert all(0 <= room < 2**63 for room in rooms)
    assert len(set(rooms)) == 200

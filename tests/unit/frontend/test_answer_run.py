"""Choices on their way through workers: what the next worker is asked for, and who may move when."""

from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import EngineFailed, ModelNotReady, WorkerLost, WorkerTimeout
from appliance.core.identity import WorkerId
from appliance.core.requests import EngineRequest, Guided
from appliance.core.settings import RequestSettings
from tests.helpers.answer_scene import MODEL, PROMPT, AnswerScene, playing, question
from tests.helpers.answers import ID, chat_request, chunk


class TwoWorkers(AnswerScene):
    """One answer over two workers that are alike."""

    def moves(self, kind: str) -> float:
        """How often a choice has moved, by why."""
        return self.metrics.cell("dynamo_frontend_model_migration_total", MODEL, kind).value


def scene(
    *, stream: bool = True, n: int = 1, asked: EngineRequest | None = None, settings: RequestSettings | None = None
) -> AbstractAsyncContextManager[TwoWorkers]:
    """The answer is being given while the block runs."""
    made = TwoWorkers(chat_request(stream=stream, n=n), asked or question(), settings)
    for name in ("one", "two"):
        made.join(name)
    return playing(made)


@pytest.mark.parametrize("stream", [True, False])
async def test_stream_goes_on_elsewhere_behind_its_tokens(stream: bool) -> None:
    async with scene(stream=stream) as it:
        it.stage.say("abc")
        it.stage.lose()
        await wait_all_tasks_blocked()
        it.stage.say("def", last=True)
        await it.ended.wait()
        (first, _), (second, request) = it.stage.asked
        assert first != second
        assert request.token_ids == [*PROMPT, *b"abc"]
        assert (request.stop.max_tokens, request.stop.min_tokens) == (7, 1)
        assert request.id == ID
        assert request.sampling.seed == 7
        assert it.error is None
        assert it.answer.usage().completion_tokens == 6
        assert it.answer.usage().prompt_tokens == 7, "the prompt is the client's, not the second worker's"
        assert (it.moves("ongoing_request"), it.moves("new_request")) == (1, 0)
        assert b"error" not in it.client.body


async def test_stream_lost_before_its_first_token_starts_from_the_prompt() -> None:
    async with scene() as it:
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.stage.asked[1][1].token_ids == PROMPT
        assert it.moves("new_request") == 1


async def test_stream_that_has_all_its_tokens_is_complete_without_another_worker() -> None:
    async with scene(asked=question(max_tokens=3)) as it:
        it.stage.say("abc")
        it.stage.lose()
        await it.ended.wait()
        assert len(it.stage.asked) == 1
        assert b'"finish_reason":"length"' in it.client.body


async def test_moves_are_limited_and_the_last_loss_is_an_error_in_the_stream() -> None:
    async with scene(settings=RequestSettings(migration_limit=2)) as it:
        it.join("three")
        for _ in range(3):
            it.stage.say("a")
            it.stage.lose()
            await wait_all_tasks_blocked()
        await it.ended.wait()
        assert len(it.stage.asked) == 3
        assert it.error is None
        assert it.client.body.count(b"worker_lost") == 1


async def test_the_only_worker_is_given_time_before_it_is_tried_again(autojump_clock: MockClock) -> None:
    async with scene() as it:
        it.leave("two")
        tried_at = [trio.current_time()]
        for _ in range(3):
            opened = it.stage.opened
            it.stage.lose()
            await opened.wait()
            tried_at.append(trio.current_time())
        pauses = [later - earlier for earlier, later in pairwise(tried_at)]
        assert pauses == pytest.approx([0.25, 0.5, 1.0])
        it.stage.say("abc", last=True)
        await it.ended.wait()
        assert it.error is None


@pytest.mark.parametrize(("stream", "shown", "moves"), [(True, True, False), (True, False, True), (False, True, True)])
async def test_output_under_a_grammar_starts_over_while_nothing_was_shown(
    stream: bool, shown: bool, moves: bool
) -> None:
    async with scene(stream=stream, asked=question(guided=Guided(regex="[a-z]+"))) as it:
        if shown:
            it.stage.say("abc")
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert len(it.stage.asked) == 1 + moves
        if moves:
            assert it.stage.asked[1][1] == it.stage.asked[0][1]
            it.stage.say("xyz", last=True)
        await it.ended.wait()
        assert (b"worker_lost" in it.client.body) is not moves
        assert b"abcxyz" not in it.client.body


async def test_fault_of_the_engine_is_not_carried_elsewhere() -> None:
    async with scene() as it:
        it.stage.lose(EngineFailed("no"))
        await it.ended.wait()
        assert isinstance(it.error, EngineFailed)
        assert len(it.stage.asked) == 1


async def test_stream_longer_than_the_limit_stays_and_is_counted() -> None:
    async with scene(settings=RequestSettings(migration_max_seq_len=5)) as it:
        it.stage.say("abc")
        it.stage.lose()
        await it.ended.wait()
        assert b"worker_lost" in it.client.body
        assert it.metrics.cell("dynamo_frontend_model_migration_max_seq_len_exceeded_total", "m").value == 1


async def test_only_the_lost_choice_moves() -> None:
    async with scene(n=2) as it:
        kept, lost = it.stage.sinks
        kept.on_chunk(chunk("kept"))
        lost.on_chunk(chunk("lo"))
        lost.on_error(WorkerLost("the worker was killed"))
        await wait_all_tasks_blocked()
        assert len(it.stage.asked) == 3
        it.stage.say("st", last=True)
        kept.on_chunk(chunk("!", "stop"))
        kept.flush()
        await it.ended.wait()
        assert it.error is None
        assert it.answer.usage().completion_tokens == 9


async def test_finished_choice_frees_its_place_before_the_others_end() -> None:
    async with scene(n=2) as it:
        it.stage.say("done", last=True)
        assert it.stage.open_streams == 1
        assert sum(it.router.load().values()) == 1


async def test_worker_without_a_link_is_passed_over() -> None:
    async with scene() as it:
        it.stage.dead = {it.stage.asked[0][0]}
        it.stage.lose()
        await wait_all_tasks_blocked()
        assert it.stage.asked[-1][0] not in it.stage.dead


async def test_silent_worker_is_left_after_the_patience(autojump_clock: trio.testing.MockClock) -> None:
    async with scene(settings=RequestSettings(first_token_s=5, migration_limit=1)) as it:
        it.stage.say("a")
        await trio.sleep(16)
        await it.ended.wait()
        assert len(it.stage.asked) == 2
        assert it.stage.asked[1][1].token_ids == [*PROMPT, *b"a"]
        assert b"worker_timeout" in it.client.body
        assert isinstance(it.answer.error, WorkerTimeout)


async def test_round_breaks_the_silence_before_the_first_token(autojump_clock: trio.testing.MockClock) -> None:
    pings: list[float] = []
    async with scene() as it:
        it.answer.ping = lambda: pings.append(trio.current_time())  # type: ignore[method-assign]  # a spy
        begun = trio.current_time()
        await trio.sleep(35)
        assert [round(at - begun) for at in pings] == [10, 20, 30]
        it.stage.say("a", last=True)


async def test_nobody_to_go_on_with_is_an_error_after_the_hold_time(autojump_clock: trio.testing.MockClock) -> None:
    async with scene(settings=RequestSettings(hold_s=3)) as it:
        for name in ("one", "two"):
            it.router.withdraw(WorkerId(name))
        it.stage.say("a")
        it.stage.lose()
        await it.ended.wait()
        assert isinstance(it.error, ModelNotReady)

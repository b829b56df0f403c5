"""Answers in trouble: engines that fail, choices that start over or go on, clients that stall or leave."""

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from appliance.core.errors import ApplianceError, EngineFailed, InternalError, WorkerLost
from appliance.core.requests import TokenChunk
from tests.fakes.client import Gone, RecordingClient
from tests.helpers.answers import chat_request, chunk, feed, make_answer, read_events


@pytest.fixture
def client() -> RecordingClient:
    return RecordingClient()


async def test_error_before_the_first_event_is_raised(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True), client)
    answer.choices[0].on_error(WorkerLost("the worker has gone"))
    with pytest.raises(WorkerLost, match="gone"):
        await answer.wait()
    assert client.status == 0
    assert not answer.fail(WorkerLost("x"))


async def test_error_after_the_first_event_is_told_in_the_stream(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True, n=2), client)
    feed(answer, chunk("some"))
    answer.choices[1].on_error(EngineFailed("the engine failed"))
    feed(answer, chunk(" late", "stop"))
    await answer.wait()
    assert read_events(client.body)[-1] == {
        "error": {"message": "the engine failed", "type": "server_error", "param": None, "code": "engine_failed"}
    }
    assert isinstance(answer.error, EngineFailed)
    assert b"late" not in client.body
    assert client.ended


@pytest.mark.parametrize("stream", [True, False])
async def test_failed_choice_starts_over(client: RecordingClient, stream: bool) -> None:
    answer = make_answer(chat_request(stream=stream, stop=["cd"]), client)
    feed(answer, *([] if stream else [chunk("ab"), chunk("c")]))
    answer.choices[0].on_error(WorkerLost("the worker has gone"))
    with pytest.raises(WorkerLost):
        await answer.wait()
    assert answer.failed == [0]
    assert answer.choices[0].untouched
    answer.choices[0].restart()
    feed(answer, chunk("d again", "stop"))
    await answer.wait()
    assert b"d again" in client.body
    assert b"ab" not in client.body
    assert answer.usage().completion_tokens == 7


@pytest.mark.parametrize("stream", [True, False])
async def test_failed_choice_goes_on_behind_its_tokens(client: RecordingClient, stream: bool) -> None:
    """Also in the middle of what may become a stop string; the other choice never notices."""
    answer = make_answer(chat_request(stream=stream, n=2, stop=["cd"]), client)
    answer.may_move = lambda index: index == 0
    feed(answer, chunk("abc"))
    feed(answer, chunk("other"), choice=1)
    answer.choices[0].on_error(WorkerLost("the worker has gone"))
    with pytest.raises(WorkerLost):
        await answer.wait()
    assert answer.choices[0].untouched is not stream
    answer.choices[0].resume()
    feed(answer, chunk("d, and more", "stop"))
    feed(answer, chunk(" end", "stop"), choice=1)
    await answer.wait()
    if stream:
        events = [event["choices"][0] for event in read_events(client.body)]
        texts = [
            "".join(one["delta"].get("content", "") for one in events if one["index"] == index) for index in (0, 1)
        ]
    else:
        texts = [choice["message"]["content"] for choice in json.loads(client.body)["choices"]]
    assert texts == ["ab", "other end"]
    assert b"error" not in client.body


async def test_wait_that_was_cancelled_on_a_stalled_client_does_not_answer_twice(
    client: RecordingClient, autojump_clock: trio.testing.MockClock
) -> None:
    answer = make_answer(chat_request(), client)
    feed(answer, chunk("a", "stop"))
    client.stall_after_answer = True
    with trio.move_on_after(1):
        await answer.wait()
    client.unblock()
    await answer.wait()
    assert len(client.sends) == 1


@pytest.mark.parametrize("error", [WorkerLost("the worker has gone"), EngineFailed("out of luck")])
async def test_choice_that_was_seen_and_may_not_move_ends_the_stream(
    client: RecordingClient, error: ApplianceError
) -> None:
    answer = make_answer(chat_request(stream=True), client)
    answer.may_move = lambda _: not error.retryable
    feed(answer, chunk("seen"))
    answer.choices[0].on_error(error)
    await answer.wait()
    assert answer.error is error
    assert not answer.choices[0].untouched


@pytest.mark.parametrize(("finish", "error"), [("error", EngineFailed), ("cancelled", WorkerLost)])
async def test_engine_that_gives_up_is_an_error(client: RecordingClient, finish: str, error: type[Exception]) -> None:
    answer = make_answer(chat_request(), client)
    feed(answer, chunk("x", finish))  # type: ignore[arg-type]  # parametrised literal
    with pytest.raises(error):
        await answer.wait()


async def test_token_that_has_no_text_fails_its_stream_only(client: RecordingClient) -> None:
    answer = make_answer(chat_request(), client)
    answer.choices[0].on_chunk(TokenChunk(stream=1, token_ids=[999]))
    with pytest.raises(InternalError, match="the server failed") as caught:
        await answer.wait()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_stalled_client_is_waited_for_by_the_task(client: RecordingClient, nursery: trio.Nursery) -> None:
    answer = make_answer(chat_request(stream=True), client)
    done = trio.Event()

    async def handle() -> None:
        await answer.wait()
        done.set()

    nursery.start_soon(handle)
    await wait_all_tasks_blocked()
    client.stalled = True
    feed(answer, chunk("a"))
    await wait_all_tasks_blocked()
    assert client.drains == 1
    feed(answer, chunk("b", "stop"))
    await wait_all_tasks_blocked()
    assert not done.is_set()
    client.unblock()
    with trio.fail_after(1):
        await done.wait()


async def test_client_that_left_ends_the_wait(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True), client)
    client.broken = True
    feed(answer, chunk("a"))
    with pytest.raises(Gone):
        await answer.wait()


async def test_cancelled_wait_can_be_repeated(client: RecordingClient, autojump_clock: trio.testing.MockClock) -> None:
    answer = make_answer(chat_request(stream=True), client)
    with trio.move_on_after(1) as scope:
        await answer.wait()
    assert scope.cancelled_caught
    feed(answer, chunk("a", "stop"))
    await answer.wait()
    assert client.ended


async def test_two_failures_in_one_read_wake_the_task_once(client: RecordingClient, nursery: trio.Nursery) -> None:
    answer = make_answer(chat_request(n=2), client)
    raised: list[ApplianceError] = []

    async def handle() -> None:
        with pytest.raises(WorkerLost) as caught:
            await answer.wait()
        raised.append(caught.value)

    nursery.start_soon(handle)
    await wait_all_tasks_blocked()
    first, second = WorkerLost("first"), WorkerLost("second")
    answer.choices[1].on_error(second)
    answer.choices[0].on_error(first)
    await wait_all_tasks_blocked()
    assert raised == [first]
    assert answer.failed == [0, 1]

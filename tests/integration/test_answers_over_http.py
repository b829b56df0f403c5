"""Answers through the real listener and sockets, fed as a link's pump does it, from another task."""

import json

import pytest
import trio

from appliance.core.errors import WorkerLost
from appliance.core.identity import RequestId
from appliance.frontend.protocols.openai.decode import decode_chat
from appliance.frontend.protocols.openai.formats import chat_format
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.web.exchange import Exchange
from tests.fakes.text import byte_tools
from tests.helpers.answers import SAY_HI, chunk, read_events
from tests.helpers.http import RawClient, post, serving

STEPS = 2000


def make(exchange: Exchange) -> Answer:
    request = decode_chat(exchange.request.body, RequestId("r"))
    return Answer(request, exchange, chat_format(request), byte_tools(request.stop), [PromptFacts(1)])


async def many_steps(exchange: Exchange) -> None:
    """Two thousand steps from a task that never waits for the client."""
    answer = make(exchange)

    async def pump() -> None:
        choice = answer.choices[0]
        for number in range(STEPS):
            choice.on_chunk(chunk(f"{number} "))
            choice.flush()
            await trio.lowlevel.checkpoint()
        choice.on_chunk(chunk("", "stop"))
        choice.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        await answer.wait()


async def no_worker(exchange: Exchange) -> None:
    answer = make(exchange)
    answer.choices[0].on_error(WorkerLost("the worker has gone"))
    await answer.wait()


def body(**members: object) -> bytes:
    return json.dumps({"model": "m", "messages": SAY_HI, **members}).encode()


async def ask(client: RawClient, **members: object) -> tuple[int, bytes]:
    answer = await client.ask(post("/", body(**members)))
    return answer.status, answer.body


async def test_stream_and_document_over_one_connection() -> None:
    wanted = "".join(f"{number} " for number in range(STEPS))
    async with serving(many_steps) as served:
        client = await served.connect()
        status, streamed = await ask(client, stream=True)
        events = read_events(streamed)
        assert (status, len(events)) == (200, STEPS + 1)
        assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == wanted
        status, document = await ask(client)
        assert json.loads(document)["choices"][0]["message"]["content"] == wanted


async def test_client_that_reads_late_gets_everything() -> None:
    async with serving(many_steps) as served:
        client = await served.connect()
        await client.send(post("/", body(stream=True)))
        await trio.sleep(0.1)
        answer = await client.read_answer()
        assert len(read_events(answer.body)) == STEPS + 1


@pytest.mark.parametrize("stream", [True, False])
async def test_error_before_the_first_token_is_an_http_error(stream: bool) -> None:
    async with serving(no_worker) as served:
        status, answer = await ask(await served.connect(), stream=stream)
    assert status == 503
    assert json.loads(answer)["error"]["code"] == "worker_lost"

"""A stream that loses its worker every few tokens gives, greedily, the tokens of an undisturbed one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import trio

from appliance.core.errors import WorkerLost
from appliance.core.identity import WorkerId
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import Engine, StreamSink
from appliance.core.requests import EngineRequest, EngineUsage, FinishReason, TokenChunk, TokenLogprob
from appliance.core.settings import RequestSettings, RouterSettings
from appliance.engines.llamacpp import LlamaCppEngine
from appliance.frontend.accounts import Account, Accounts
from appliance.frontend.answer_run import AnswerRun, Shared
from appliance.frontend.protocols.openai.formats import chat_format
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.frontend.streams.seams import TextTools
from appliance.frontend.vigil import Vigil
from appliance.preprocess.stops import StopMatcher
from appliance.preprocess.tokenizer import TextTokenizer
from appliance.routing.router import Router
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE
from tests.fakes.client import RecordingClient
from tests.fakes.transport import FakeTransport
from tests.helpers.answers import ID, chat_request
from tests.helpers.engines import GREEDY, KV_QUESTION, answer, demo_facts, make_request, running

WORKERS = (WorkerId("one"), WorkerId("two"))
LENGTH = 64
"""Tokens of each answer; the demo model goes on past its end token when told to."""


class DyingWorkers(FakeTransport):
    """Streams of real engines, each cut off after some tokens as a killed worker would cut it off."""

    def __init__(self, engines: dict[WorkerId, Engine], lives_for: int, nursery: trio.Nursery) -> None:
        super().__init__()
        self._engines, self._lives_for, self._nursery = engines, lives_for, nursery
        self.deaths = 0

    def open(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> AbstractContextManager[None]:
        return self._stream(self._engines[worker], request, sink)

    @contextmanager
    def _stream(self, engine: Engine, request: EngineRequest, sink: StreamSink) -> Iterator[None]:
        scope = trio.CancelScope()
        self._nursery.start_soon(self._run, engine, request, sink, scope)
        try:
            yield
        finally:
            scope.cancel()

    async def _run(self, engine: Engine, request: EngineRequest, sink: StreamSink, scope: trio.CancelScope) -> None:
        def die() -> None:
            self.deaths += 1
            sink.on_error(WorkerLost("the worker was killed"))
            scope.cancel()

        with scope:
            await engine.generate(request, CutOff(sink, self._lives_for, die))


class CutOff:
    """Passes some tokens on, then dies; a stream that ends with the last of them has ended well."""

    def __init__(self, sink: StreamSink, left: int, die: Callable[[], None]) -> None:
        self._sink, self._left, self._die = sink, left, die

    def emit(
        self,
        token_ids: list[int],
        finish: FinishReason | None = None,
        usage: EngineUsage | None = None,
        logprobs: list[TokenLogprob] | None = None,
        handover: object = None,
        text: str | None = None,
    ) -> None:
        if self._left <= 0:
            return
        whole = len(token_ids) <= self._left
        self._sink.on_chunk(TokenChunk(0, token_ids[: self._left], finish if whole else None, usage))
        self._sink.flush()
        self._left -= len(token_ids)
        if self._left <= 0 and not (whole and finish):
            self._die()

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()


def make_demo_answer(*, stream: bool) -> Answer:
    """An answer to a chat with the demo model, with a stop string that never comes."""
    request = chat_request(stream=stream, stop=["never"])
    decoder = TextTokenizer.from_json(demo_facts().files["tokenizer.json"])
    tools = TextTools(
        detokeniser=decoder.detokeniser,
        parser=lambda: None,
        matcher=lambda: StopMatcher(request.stop),
        token_bytes=decoder.token_bytes,
    )
    return Answer(request, RecordingClient(), chat_format(request), tools, [PromptFacts(7)])


@pytest.mark.parametrize("lives_for", [10, 1])
@pytest.mark.parametrize("stream", [True, False])
async def test_greedy_output_is_that_of_an_undisturbed_run(lives_for: int, stream: bool) -> None:
    prompts = [KV_QUESTION, KV_QUESTION.replace("KV cache", "router"), "Once upon a time"]
    engines: dict[WorkerId, Engine] = {
        worker: LlamaCppEngine(demo_facts(), EngineOptions(served_name="demo", args={"slots": "1"}))
        for worker in WORKERS
    }
    async with running(engines[WORKERS[0]]) as card, running(engines[WORKERS[1]]), trio.open_nursery() as nursery:
        router = Router(RouterSettings(mode="round-robin"))
        for worker in WORKERS:
            router.add(worker, card)
        for prompt in prompts:
            request = make_request(prompt, max_tokens=LENGTH, sampling=GREEDY)
            wanted = await answer(engines[WORKERS[0]], request)
            transport = DyingWorkers(engines, lives_for, nursery)
            got = make_demo_answer(stream=stream)
            await AnswerRun(
                got,
                [request],
                Account(id=ID, endpoint="chat_completions", started=0.0, model="m"),
                Shared(router, transport, Accounts(Metrics(TABLE)), Vigil()),
                RequestSettings(migration_limit=LENGTH),
            ).run()
            assert got.choices[0].token_ids == wanted.token_ids
            assert got.choices[0].finish == wanted.finish
            assert transport.deaths >= len(wanted.token_ids) // lives_for - 1

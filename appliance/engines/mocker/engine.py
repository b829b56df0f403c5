"""`MockerEngine`: the Engine port without a model."""

import hashlib
import math
import random
import struct

import trio

from appliance.core.errors import EngineFailed, InvalidRequest, UsageError
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.requests import EngineRequest, EngineUsage, ModelCard
from appliance.engines.admission import CLOSED, DRAINING, Admission, check_prompt
from appliance.engines.cards import CardFiles, make_card
from appliance.engines.mocker.options import read_options
from appliance.engines.mocker.step_loop import StepLoop
from appliance.engines.mocker.streams import MockedStream
from appliance.engines.mocker.words import RandomTokens, ScriptedTokens, TokenSource, Vocabulary

MS_PER_S = 1000.0


class MockerEngine(CardFiles):
    """Answers with words. Abilities beside `Engine`: `BackgroundEngine` (the step loop), `FileSource`."""

    def __init__(self, facts: ModelFacts, options: EngineOptions) -> None:
        """Any served name will do; `facts` lend the tokenizer. Raises `UsageError` for bad engine arguments."""
        super().__init__(facts)
        self._facts = facts
        self._options = options
        self._given = read_options(options)
        self._task = options.task or facts.task
        self._context = options.context_length or facts.context_length
        if self._context < 1:
            raise UsageError(f"a context length of {self._context} tokens is too short")
        self._loop = StepLoop(
            step_s=self._given.step_ms / MS_PER_S,
            max_running=self._given.max_num_seqs,
            fail_after=self._given.fail_after,
        )
        self._vocabulary: Vocabulary | None = None
        self._script: list[int] | None = None
        self._door = Admission()
        self._unseeded = random.Random(self._given.seed)
        self._closed = trio.Event()

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Take as long as asked. See `Engine.start`."""
        progress(-1.0, "pretending to load")
        await trio.sleep(self._given.startup_ms / MS_PER_S)
        self._vocabulary = await trio.to_thread.run_sync(Vocabulary, self._facts, abandon_on_cancel=True)
        if self._given.text is not None:
            self._script = self._vocabulary.tokenize(self._given.text)
        self._door.open()
        progress(1.0, "ready")
        return make_card(
            "mocker",
            self._facts,
            self._options,
            task=self._task,
            context_length=self._context,
            max_num_seqs=self._given.max_num_seqs,
            total_kv_blocks=self._given.num_gpu_blocks,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The step loop. See `BackgroundEngine.run`."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._loop.run)
            task_status.started()
            await self._closed.wait()
            nursery.cancel_scope.cancel()

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        """Run one stream. See `Engine.generate`. Needs `run`; cancelling frees the place at once."""
        with self._door.enter():
            self._check(request)
            budget = min(request.stop.max_tokens, self._context - len(request.token_ids))
            if budget < 1:
                sink.emit([], "length", EngineUsage(len(request.token_ids), 0))
                return
            ready_at = trio.current_time() + len(request.token_ids) * self._given.prefill_ms_per_token / MS_PER_S
            await self._loop.run_stream(MockedStream(request, sink, self._tokens(request), budget, ready_at))

    async def embed(self, request: EngineRequest) -> list[float]:
        """A unit vector that depends on the tokens only. See `Engine.embed`."""
        with self._door.enter():
            if self._task != "embed":
                raise InvalidRequest("this worker generates text and makes no embeddings", param="model")
            check_prompt(request.token_ids, self._context)
            await trio.lowlevel.checkpoint()
            return _vector(request.token_ids, max(self._facts.embedding_size, 1))

    async def drain(self) -> None:
        """See `Engine.drain`."""
        if self._vocabulary is not None:
            self._door.shut(DRAINING)
        await self._door.wait_empty()

    async def close(self) -> None:
        """End the streams and the step loop. See `Engine.close`."""
        if self._vocabulary is not None:
            self._door.shut(CLOSED)
        self._closed.set()
        self._loop.fail_all(CLOSED)
        await self._door.wait_empty()

    def _check(self, request: EngineRequest) -> None:
        if not self._loop.is_running:
            raise EngineFailed("the engine's step loop does not run")
        if self._task != "generate":
            raise InvalidRequest("this worker makes embeddings and generates no text", param="model")
        check_prompt(request.token_ids, self._context)
        if request.guided is not None:
            raise InvalidRequest("the mocker cannot guide its output", param="response_format")

    def _tokens(self, request: EngineRequest) -> TokenSource:
        if self._script is not None:
            return ScriptedTokens(self._script)
        assert self._vocabulary is not None  # `start` has set it before any stream is let in
        seed = self._unseeded.getrandbits(64) if request.sampling.seed is None else request.sampling.seed
        return RandomTokens(self._vocabulary.words, seed)


def _vector(token_ids: list[int], size: int) -> list[float]:
    """A direction by chance, the same for the same tokens."""
    source = random.Random(hashlib.sha256(struct.pack(f"<{len(token_ids)}q", *token_ids)).digest())
    vector = [source.gauss(0, 1) for _ in range(size)]
    length = math.hypot(*vector)
    return [value / length for value in vector]

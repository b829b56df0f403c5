"""`MockerEngine`: the Engine port without a model."""

import hashlib
import math
import random
import struct
from functools import partial

import msgspec
import trio

from appliance.core.errors import EngineFailed, InvalidRequest, UsageError
from appliance.core.kv_events import TakeKvEvents
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.records import RankLoad
from appliance.core.requests import EngineRequest, EngineUsage, ModelCard
from appliance.engines.admission import CLOSED, DRAINING, Admission, check_prompt
from appliance.engines.cards import CardFiles, make_card
from appliance.engines.mocker.options import read_options
from appliance.engines.mocker.rendezvous import HOST, Rendezvous
from appliance.engines.mocker.step_loop import MS_PER_S, StepLoop
from appliance.engines.mocker.streams import MockedStream, PrefillStream
from appliance.engines.mocker.words import RandomTokens, ScriptedTokens, ThinkingTokens, TokenSource, Vocabulary
from appliance.simulation.engines import make_scheduler
from appliance.simulation.timing import FixedTiming, kv_transfer_ms


class MockerEngine(CardFiles):
    """Answers with words, at the times and with the cache of a modelled engine.

    Abilities beside `Engine`: `BackgroundEngine` (the step loops), `FileSource`, `KvEventSource`, `LoadSource`.
    """

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
        self._loops = [self._make_loop() for _ in range(self._given.ranks)]
        self._vocabulary: Vocabulary | None = None
        self._script: list[int] | None = None
        self._door = Admission()
        self._unseeded = random.Random(self._given.seed)
        self._rendezvous = Rendezvous()
        self._bootstrap_port = 0
        self._closed = trio.Event()

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Take as long as asked. See `Engine.start`."""
        progress(-1.0, "pretending to load")
        await trio.sleep(self._given.startup_ms / MS_PER_S)
        self._vocabulary = await trio.to_thread.run_sync(Vocabulary, self._facts, abandon_on_cancel=True)
        if self._given.text is not None:
            self._script = self._vocabulary.tokenize(self._given.text)
        if self._given.bootstrap_port is not None and self._given.engine.role == "prefill":
            self._bootstrap_port = await self._rendezvous.open(self._given.bootstrap_port)
        self._door.open()
        progress(1.0, "ready")
        return self._make_card()

    def publish_kv_events(self, take: TakeKvEvents) -> None:
        """See `KvEventSource.publish_kv_events`. A decode worker has nothing to say."""
        if self._has_events:
            for rank, loop in enumerate(self._loops):
                loop.publish_kv_events(partial(take, rank))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The step loops, one for each rank, and the meeting point. See `BackgroundEngine.run`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._rendezvous.serve)
            for loop in self._loops:
                await nursery.start(loop.run)
            task_status.started()
            await self._closed.wait()
            nursery.cancel_scope.cancel()

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        """Run one stream. See `Engine.generate`. Needs `run`; cancelling frees the place at once.

        Raises `WorkerLost` or `WorkerTimeout`, too, when the prefill half of a split request is not to be had.
        """
        with self._door.enter():
            transfer = request.kv_transfer
            if transfer is None or transfer.bootstrap_room is None:
                await self._run_stream(request, sink)
            elif transfer.phase == "prefill":
                with self._rendezvous.rooms.hold(transfer.bootstrap_room) as room:
                    await self._run_stream(request, sink)
                    room.tokens = len(request.token_ids)
            else:
                self._check(request)
                await self._run_stream(await self._rendezvous.fetch(request, transfer), sink)

    async def embed(self, request: EngineRequest) -> list[float]:
        """A unit vector that depends on the tokens only. See `Engine.embed`."""
        with self._door.enter():
            if self._task != "embed":
                raise InvalidRequest("this worker generates text and makes no embeddings", param="model")
            check_prompt(request.token_ids, self._context)
            await trio.lowlevel.checkpoint()
            return _vector(request.token_ids, max(self._facts.embedding_size, 1))

    def loads(self) -> list[RankLoad]:
        """See `LoadSource.loads`."""
        return [loop.load(rank) for rank, loop in enumerate(self._loops)]

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
        await self._rendezvous.close()
        for loop in self._loops:
            loop.fail_all(CLOSED)
        await self._door.wait_empty()

    async def _run_stream(self, request: EngineRequest, sink: TokenSink) -> None:
        self._check(request)
        prompt_tokens = len(request.token_ids)
        # The last token of an output is never computed and takes no place in the cache.
        room = min(self._context, self._given.engine.cache_tokens + 1) - prompt_tokens
        budget = min(request.stop.max_tokens, room)
        if budget < 1 and request.stop.max_tokens < 1:
            sink.emit([], "length", EngineUsage(prompt_tokens, 0))
            return
        await self._loop(request.rank).run_stream(self._stream(request, sink, max(budget, 1)))

    def _check(self, request: EngineRequest) -> None:
        if not all(loop.is_running for loop in self._loops):
            raise EngineFailed("the engine's step loop does not run")
        if self._task != "generate":
            raise InvalidRequest("this worker makes embeddings and generates no text", param="model")
        check_prompt(request.token_ids, self._context)
        if request.guided is not None:
            raise InvalidRequest("the mocker cannot guide its output", param="response_format")

    def _loop(self, rank: int | None) -> StepLoop:
        """The loop of a rank; of the least busy one when it is all the same."""
        if rank is None:
            return min(self._loops, key=lambda loop: loop.busy)
        if not 0 <= rank < len(self._loops):
            raise InvalidRequest(f"this worker has {len(self._loops)} ranks and no rank {rank}", param="nvext")
        return self._loops[rank]

    def _stream(self, request: EngineRequest, sink: TokenSink, budget: int) -> MockedStream:
        is_prefill = request.kv_transfer is not None and request.kv_transfer.phase == "prefill"
        tokens = self._tokens(request, budget)
        if is_prefill:
            return PrefillStream(request, sink, tokens, 1, None)
        return MockedStream(request, sink, tokens, budget, self._given.fail_after)

    def _tokens(self, request: EngineRequest, budget: int) -> TokenSource:
        source: TokenSource
        if self._script is not None:
            source = ScriptedTokens(self._script)
        else:
            assert self._vocabulary is not None  # `start` has set it before any stream is let in
            seed = self._unseeded.getrandbits(64) if request.sampling.seed is None else request.sampling.seed
            source = RandomTokens(self._vocabulary.row, seed, len(request.token_ids))
        if self._given.reasoning is not None:
            return ThinkingTokens(source, self._given.reasoning, budget)
        return source

    @property
    def _has_events(self) -> bool:
        return self._given.engine.enable_prefix_caching and self._given.engine.role != "decode"

    def _make_loop(self) -> StepLoop:
        given = self._given

        def transfer_ms(prompt_tokens: int) -> float:
            return kv_transfer_ms(prompt_tokens, given.kv_bytes_per_token, given.kv_transfer_gb_s)

        return StepLoop(
            make_scheduler(given.engine, given.timing),
            tokens_first=isinstance(given.timing, FixedTiming),
            transfer_ms=transfer_ms,
        )

    def _make_card(self) -> ModelCard:
        engine = self._given.engine
        card = make_card(
            "mocker",
            self._facts,
            self._options,
            task=self._task,
            context_length=self._context,
            max_num_seqs=engine.max_num_seqs,
            total_kv_blocks=engine.num_gpu_blocks,
        )
        return msgspec.structs.replace(
            card,
            block_size=engine.block_size,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            ranks=len(self._loops),
            kv_events=self._has_events,
            role=engine.role,
            bootstrap_host=HOST if self._bootstrap_port else "",
            bootstrap_port=self._bootstrap_port,
        )


def _vector(token_ids: list[int], size: int) -> list[float]:
    """A direction by chance, the same for the same tokens."""
    source = random.Random(hashlib.sha256(struct.pack(f"<{len(token_ids)}q", *token_ids)).digest())
    vector = [source.gauss(0, 1) for _ in range(size)]
    length = math.hypot(*vector)
    return [value / length for value in vector]

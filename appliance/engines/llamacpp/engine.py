"""`LlamaCppEngine`: the Engine port over llama.cpp in this process."""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import trio

from appliance.core.errors import EngineFailed, InvalidRequest
from appliance.core.kv_events import TakeKvEvents
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.records import RankLoad
from appliance.core.requests import EngineRequest, EngineUsage, ModelCard
from appliance.engines.admission import CLOSED, DRAINING, Admission, check_prompt
from appliance.engines.cards import BLOCK_TOKENS, CardFiles, make_card
from appliance.engines.kept_output import KeptOutput
from appliance.engines.llamacpp.generation import Generation, LoadedModel
from appliance.engines.llamacpp.guided import grammar_of
from appliance.engines.llamacpp.handover import Handovers
from appliance.engines.llamacpp.held_tokens import HeldTokens
from appliance.engines.llamacpp.kv_files import KvFiles, fingerprint
from appliance.engines.llamacpp.leases import SlotPool
from appliance.engines.llamacpp.options import MemoryPlan, chosen_task, free_memory_bytes, plan_memory, read_options
from appliance.engines.llamacpp.server import LlamaServer, load_server
from appliance.engines.llamacpp.stream import refusal

TOKENIZER_THREADS = 2
T = TypeVar("T")


class LlamaCppEngine(CardFiles):
    """One model on one llama.cpp server.

    Abilities beside `Engine`: `FileSource`, `TokenizeSource`, `KvEventSource`, `BackgroundEngine`, `ProgressSource`.
    """

    def __init__(self, facts: ModelFacts, options: EngineOptions) -> None:
        """Raises `UsageError` for engine arguments that cannot be understood. Loads nothing yet."""
        super().__init__(facts)
        self._facts = facts
        self._options = options
        self._given = read_options(facts, options)
        self._task = chosen_task(facts, options)
        self._tokenizer_threads = trio.CapacityLimiter(TOKENIZER_THREADS)
        self._model: LoadedModel | None = None
        self._door = Admission()

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Load the model. See `Engine.start`.

        The binding keeps the interpreter to itself while it loads: a cancellation takes effect when it is done.
        """
        progress(-1.0, f"loading {self._facts.name}")
        # Abandoned on cancel: the model is freed by its thread as soon as it is loaded.
        server, plan, store = await trio.to_thread.run_sync(self._load, abandon_on_cancel=True)
        call_threads = trio.CapacityLimiter(plan.slots)
        self._model = LoadedModel(
            server=server,
            plan=plan,
            slots=SlotPool(plan.slots),
            call_threads=call_threads,
            held_tokens=HeldTokens(partial(server.pieces, special=True)),
            end_ids=frozenset(self._facts.eos_token_ids),
            default_sampling=self._facts.default_sampling,
            handovers=None if store is None else Handovers(store, server, call_threads),
        )
        self._door.open()
        progress(1.0, f"{self._facts.name} is loaded")
        card = make_card(
            "llamacpp",
            self._facts,
            self._options,
            task=self._task,
            context_length=plan.context,
            max_num_seqs=plan.slots,
            total_kv_blocks=plan.slots * plan.context // BLOCK_TOKENS,
            guided=self._task == "generate",
            kv_events=self._task == "generate",
        )
        return msgspec.structs.replace(card, role=self._given.role)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the KV caches that were handed over, if it does that. See `BackgroundEngine.run`."""
        task_status.started()
        handovers = None if self._model is None else self._model.handovers
        if handovers is not None:
            await handovers.run()

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        """Run one stream. See `Engine.generate`.

        Cancelling returns once the engine has let go of the slot: after the step in hand, at most `batch_size` tokens.
        """
        with self._door.enter():
            model = self._loaded()
            if self._task != "generate":
                raise InvalidRequest("this worker makes embeddings and generates no text", param="model")
            check_prompt(request.token_ids, model.plan.context)
            grammar = grammar_of(request)
            if request.stop.max_tokens < 1:
                sink.emit([], "length", EngineUsage(len(request.token_ids), 0))
                return
            async with model.slots.lease(request.token_ids) as lease:
                half = request.kv_transfer
                if half is None or model.handovers is None:
                    await Generation(model, request, sink, lease, grammar).run()
                elif half.phase == "prefill":
                    kept = KeptOutput()  # told with the handover, which there is only afterwards
                    await Generation(model, request, kept, lease, None).run()
                    handover = await model.handovers.save(lease.slot)
                    usage = kept.usage or EngineUsage(len(request.token_ids), len(kept.token_ids))
                    sink.emit(kept.token_ids, "length", usage, None, handover)
                else:
                    await model.handovers.restore(half.params, lease, model.slots, request.token_ids)
                    await Generation(model, request, sink, lease, grammar).run()

    def progress(self) -> int:
        """See `ProgressSource.progress`; a prompt shows it every `batch_size` tokens."""
        return 0 if self._model is None else self._model.progress()

    async def embed(self, request: EngineRequest) -> list[float]:
        """One unit vector. See `Engine.embed`. A cancelled call is dropped; the engine finishes it unheard."""
        with self._door.enter():
            model = self._loaded()
            if self._task != "embed":
                raise InvalidRequest("this worker generates text and makes no embeddings", param="model")
            check_prompt(request.token_ids, model.plan.context)
            answer = await trio.to_thread.run_sync(
                model.server.embed, request.token_ids, limiter=model.call_threads, abandon_on_cancel=True
            )
            if "error" in answer:
                raise refusal(answer["error"])
            return _unit(answer["data"][0]["embedding"])

    async def tokenize(self, text: str, *, special: bool) -> list[int]:
        """See `TokenizeSource.tokenize`. Raises `EngineFailed`."""
        pieces = await self._in_tokenizer_thread(partial(self._loaded().server.pieces, text, special=special))
        return [token for token, _ in pieces]

    async def detokenize(self, token_ids: list[int]) -> bytes:
        """See `TokenizeSource.detokenize`; a character that is not whole comes as U+FFFD. Raises `EngineFailed`."""
        plain = [token for token in token_ids if token not in self._facts.eos_token_ids]
        return (await self._in_tokenizer_thread(partial(self._loaded().server.text, plain))).encode()

    def publish_kv_events(self, take: TakeKvEvents) -> None:
        """See `KvEventSource`. Blocks are named by their sequence hashes; everything belongs to rank 0."""
        self._loaded().slots.report_blocks(partial(take, 0))

    def loads(self) -> list[RankLoad]:
        """See `LoadSource.loads`. What an output adds to its prompt is not counted."""
        return [self._loaded().slots.load(BLOCK_TOKENS)]

    async def drain(self) -> None:
        """See `Engine.drain`."""
        if self._model is not None:
            self._door.shut(DRAINING)
        await self._door.wait_empty()

    async def close(self) -> None:
        """End every stream with `EngineFailed` and free the model. See `Engine.close`."""
        if self._model is not None:
            self._door.shut(CLOSED)
            self._model.slots.close()
            self._model.stop_calls()
        await self._door.wait_empty()
        if self._model is not None and self._model.handovers is not None:
            self._model.handovers.close()
        self._model = None  # the last reference: llama.cpp's threads end and the memory is freed

    def _load(self) -> tuple[LlamaServer, MemoryPlan, KvFiles | None]:
        plan = plan_memory(self._facts, self._options, self._given, free_memory_bytes(self._facts))
        folder = None if self._given.role == "aggregated" else self._options.transfer_dir
        server = load_server(self._facts, plan, self._given, self._task, folder)
        if folder is None:
            return server, plan, None
        return server, plan, KvFiles(folder, fingerprint(self._facts.path, self._given.kv_cache_type))

    def _loaded(self) -> LoadedModel:
        if self._model is None:
            raise EngineFailed(CLOSED)
        return self._model

    async def _in_tokenizer_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._tokenizer_threads, abandon_on_cancel=True)


def _unit(vector: list[float]) -> list[float]:
    """The vector at length 1."""
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]

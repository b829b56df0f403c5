"""Engine arguments of llama.cpp, and the memory plan: how many slots of which context an instance gets."""

import os
from dataclasses import dataclass
from typing import Literal

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.requests import Task
from appliance.engines.arguments import EngineArguments

Role = Literal["aggregated", "prefill", "decode"]
KNOWN = (
    "batch_size",
    "disaggregation_mode",
    "flash_attn",
    "gpu_layers",
    "kv_cache_type",
    "main_gpu",
    "pooling",
    "slots",
    "threads",
    "threads_batch",
    "ubatch_size",
)
DEFAULT_SLOTS = 8
DEFAULT_CONTEXT_CAP = 8192  # tokens; longer only when asked for, as every slot's cache is allocated at the start
SMALLEST_CONTEXT = 256  # tokens; the engine rounds a slot's context up to a multiple of this
KV_MEMORY_SHARE = 0.5  # of the memory that is free once the weights are loaded
DEFAULT_BATCH = 512  # tokens; also the longest piece of work that a cancellation has to wait for
SMALL_MODEL_BYTES = 64 << 20
"""Under this a step takes less time than waking a second thread does: one thread measured 5 to 16 times the tokens."""
KV_CACHE_TYPES = {"f32": 2.0, "f16": 1.0, "bf16": 1.0, "q8_0": 0.53125, "q5_1": 0.375, "q5_0": 0.34375, "q4_0": 0.28125}
"""Size of each cache type relative to 16 bit."""
ROLES: dict[str, Role] = {"agg": "aggregated", "prefill": "prefill", "decode": "decode"}
POOLINGS = ("auto", "mean", "cls", "last")


@dataclass(frozen=True, kw_only=True)
class LlamaCppOptions:
    """The arguments as typed values; -1 leaves a choice to the engine."""

    slots: int | None
    """None: as many of the default as memory allows."""
    threads: int
    threads_batch: int
    batch_size: int
    """Tokens in one prefill step."""
    ubatch_size: int
    gpu_layers: int
    main_gpu: int
    flash_attn: str
    kv_cache_type: str
    pooling: str
    role: Role = "aggregated"


@dataclass(frozen=True)
class MemoryPlan:
    """What an instance allocates: `slots` sequences of up to `context` tokens each."""

    slots: int
    context: int

    @property
    def total_tokens(self) -> int:
        return self.slots * -(-self.context // SMALLEST_CONTEXT) * SMALLEST_CONTEXT


def read_options(facts: ModelFacts, options: EngineOptions) -> LlamaCppOptions:
    """The typed engine arguments, with defaults that suit the model. Raises `UsageError`."""
    args = EngineArguments("llamacpp", options.args, KNOWN)
    threads = args.integer("threads", 1 if facts.size_bytes < SMALL_MODEL_BYTES else -1, low=1, high=1024)
    batch = args.integer("batch_size", DEFAULT_BATCH, low=16, high=65536)
    return LlamaCppOptions(
        slots=args.integer("slots", 0, low=1, high=256) or None,
        threads=threads,
        threads_batch=args.integer("threads_batch", threads, low=1, high=1024),
        batch_size=batch,
        ubatch_size=args.integer("ubatch_size", min(batch, DEFAULT_BATCH), low=16, high=batch),
        gpu_layers=args.integer("gpu_layers", -1, low=-1),
        main_gpu=args.integer("main_gpu", 0, low=0, high=1024),
        flash_attn=args.one_of("flash_attn", "auto", ("auto", "on", "off")),
        kv_cache_type=args.one_of("kv_cache_type", "f16", tuple(KV_CACHE_TYPES)),
        pooling=args.one_of("pooling", "auto", POOLINGS),
        role=_role(args, facts, options),
    )


def _role(args: EngineArguments, facts: ModelFacts, options: EngineOptions) -> Role:
    role = ROLES[args.one_of("disaggregation_mode", "agg", tuple(ROLES))]
    if role != "aggregated" and chosen_task(facts, options) != "generate":
        raise UsageError(f"{facts.name} makes embeddings and cannot be split into prefill and decode workers")
    if role != "aggregated" and options.transfer_dir is None:
        raise UsageError(f"a {role} worker of llamacpp needs a folder shared with the others: start it with `serve`")
    return role


def chosen_task(facts: ModelFacts, options: EngineOptions) -> Task:
    """What the instance does: what the user asked for, else what the model is made for."""
    return options.task or facts.task


def plan_memory(facts: ModelFacts, options: EngineOptions, given: LlamaCppOptions, free_bytes: int) -> MemoryPlan:
    """Slots and context for a model with `free_bytes` of memory left after loading; 0 when that is not known.

    What the user asked for is taken as it is. Without a wish the context is the model's own, capped; then slots and
    context are halved in turn until the cache fits. Raises `UsageError` for more context than the model was made for.
    """
    context = _wanted_context(facts, options)
    slots = given.slots or DEFAULT_SLOTS
    bytes_per_token = facts.kv_bytes_per_token * KV_CACHE_TYPES[given.kv_cache_type]
    budget = free_bytes * KV_MEMORY_SHARE
    if not bytes_per_token or not free_bytes:
        return MemoryPlan(slots, context)
    while slots * context * bytes_per_token > budget:
        if given.slots is None and slots > 1:
            slots //= 2
        elif options.context_length is None and context > SMALLEST_CONTEXT:
            context //= 2
        else:
            break
    return MemoryPlan(slots, context)


def free_memory_bytes(facts: ModelFacts) -> int:
    """Memory that is left for caches once the weights are in; 0 when the kernel does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
    return max(available - facts.size_bytes, os.sysconf("SC_PAGE_SIZE"))


def _wanted_context(facts: ModelFacts, options: EngineOptions) -> int:
    if options.context_length is None:
        return min(facts.context_length or DEFAULT_CONTEXT_CAP, DEFAULT_CONTEXT_CAP)
    if options.context_length < 1:
        raise UsageError(f"a context length of {options.context_length} tokens is too short")
    if facts.context_length and options.context_length > facts.context_length:
        raise UsageError(
            f"{facts.name} was made for {facts.context_length} tokens of context, not {options.context_length}"
        )
    return options.context_length

"""Estimates the memory that a model needs and explains, with the arithmetic, why it does not fit."""

from dataclasses import dataclass

from appliance.core.model_facts import ModelFacts

MIB = 1 << 20
FIXED_OVERHEAD = 64 * MIB  # engine code, tables and thread stacks
BATCH_TOKENS = 512  # tokens that the engine computes at once by default
WORK_VECTORS = 12  # vectors of embedding size alive per token of a batch, measured on small models
FLOAT_BYTES = 4
CONTEXT_STEP = 256  # contexts are offered in such steps, as engines round to them


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """Bytes that one engine instance needs, by purpose."""

    weights: int
    kv: int
    overhead: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.kv + self.overhead


def estimate_memory(facts: ModelFacts, *, context_length: int, slots: int) -> MemoryNeed:
    """What running the model takes with `slots` streams of `context_length` tokens each."""
    work = BATCH_TOKENS * FLOAT_BYTES * (facts.vocab_size + WORK_VECTORS * facts.embedding_size)
    return MemoryNeed(
        weights=facts.size_bytes,
        kv=facts.kv_bytes_per_token * context_length * slots,
        overhead=FIXED_OVERHEAD + work,
    )


def largest_context(facts: ModelFacts, *, slots: int, available_bytes: int) -> int:
    """The longest context that fits, at most what the model was trained for; 0 when not even the shortest does."""
    room = available_bytes - estimate_memory(facts, context_length=0, slots=slots).total
    per_token = facts.kv_bytes_per_token * slots
    if room < 0:
        return 0
    if per_token == 0 or room >= per_token * facts.context_length:
        return facts.context_length
    return room // per_token // CONTEXT_STEP * CONTEXT_STEP


def refuse_if_too_large(
    facts: ModelFacts, *, context_length: int, slots: int, available_bytes: int, where: str
) -> str | None:
    """One line that says why the model does not fit into `where` (such as `GPU 0` or `memory`); None when it fits."""
    need = estimate_memory(facts, context_length=context_length, slots=slots)
    if need.total <= available_bytes:
        return None
    fitting = largest_context(facts, slots=slots, available_bytes=available_bytes)
    cure = f"a context of {fitting} tokens would fit" if fitting else "it does not fit with any context"
    return (
        f"model {facts.name} needs {_mib(need.total)} but {where} has {_mib(available_bytes)}: "
        f"{_mib(need.weights)} weights + {_mib(need.kv)} KV cache "
        f"({slots} x {context_length} tokens x {facts.kv_bytes_per_token} bytes) + {_mib(need.overhead)} overhead; "
        f"{cure}"
    )


def _mib(count: int) -> str:
    return f"{count / MIB:,.0f} MiB"

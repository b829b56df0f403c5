"""The memory estimate and the line that refuses a model."""

from pathlib import Path

from appliance.core.model_facts import ModelFacts
from appliance.models.memory_fit import MIB, estimate_memory, largest_context, refuse_if_too_large

FACTS = ModelFacts(
    path=Path("m"), name="m", architecture="llama", size_bytes=1000 * MIB, context_length=32768, vocab_size=32000,
    embedding_size=2048, layers=16, kv_bytes_per_token=65536,
)  # fmt: skip


def test_arithmetic() -> None:
    need = estimate_memory(FACTS, context_length=4096, slots=4)
    assert need.kv == 65536 * 4096 * 4
    assert need.total == need.weights + need.kv + need.overhead


def test_refusal_shows_the_numbers_and_a_cure_that_works() -> None:
    available = 3000 * MIB
    line = refuse_if_too_large(FACTS, context_length=32768, slots=4, available_bytes=available, where="GPU 0")
    assert line is not None
    assert "1,000 MiB weights + 8,192 MiB KV cache (4 x 32768 tokens x 65536 bytes)" in line
    fitting = largest_context(FACTS, slots=4, available_bytes=available)
    assert f"a context of {fitting} tokens would fit" in line
    assert refuse_if_too_large(FACTS, context_length=fitting, slots=4, available_bytes=available, where="x") is None
    assert refuse_if_too_large(FACTS, context_length=fitting + 256, slots=4, available_bytes=available, where="x")


def test_too_small_for_any_context() -> None:
    line = refuse_if_too_large(FACTS, context_length=256, slots=1, available_bytes=100 * MIB, where="memory")
    assert line is not None
    assert "does not fit with any context" in line
    assert largest_context(FACTS, slots=1, available_bytes=1 << 50) == 32768

"""Engine arguments and the memory plan."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.engines.llamacpp.options import MemoryPlan, plan_memory, read_options

GIB = 1 << 30
FACTS = ModelFacts(
    path=Path("m.gguf"),
    name="m",
    architecture="llama",
    size_bytes=4 * GIB,
    context_length=131072,
    vocab_size=1000,
    embedding_size=64,
    kv_bytes_per_token=131072,
)


def plan(*, context_length: int | None = None, free: int = 64 * GIB, **args: str) -> MemoryPlan:
    options = EngineOptions(served_name="m", context_length=context_length, args=args)
    return plan_memory(FACTS, options, read_options(FACTS, options), free)


def test_an_unknown_argument_names_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="did you mean slots") as caught:
        read_options(FACTS, EngineOptions(served_name="m", args={"slot": "3"}))
    assert "batch_size" in str(caught.value)


@pytest.mark.parametrize(
    "args", [{"slots": "0"}, {"slots": "many"}, {"flash_attn": "maybe"}, {"kv_cache_type": "q3"}, {"threads": "-2"}]
)
def test_a_bad_value_is_refused(args: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(args))):
        read_options(FACTS, EngineOptions(served_name="m", args=args))


def test_dashes_are_as_good_as_underscores() -> None:
    assert read_options(FACTS, EngineOptions(served_name="m", args={"batch-size": "64"})).batch_size == 64


def test_a_tiny_model_gets_one_thread() -> None:
    options = EngineOptions(served_name="m")
    assert read_options(replace(FACTS, size_bytes=1000), options).threads == 1
    assert read_options(FACTS, options).threads == -1


def test_with_memory_to_spare_nothing_is_cut() -> None:
    assert plan() == MemoryPlan(8, 8192)


def test_slots_go_before_context_when_memory_is_short() -> None:
    assert plan(free=2 * GIB) == MemoryPlan(1, 8192)
    assert plan(free=GIB) == MemoryPlan(1, 4096)


def test_a_smaller_cache_type_leaves_more() -> None:
    assert plan(free=4 * GIB, kv_cache_type="q8_0") == MemoryPlan(2, 8192)


def test_wishes_are_taken_as_they_are() -> None:
    assert plan(free=GIB, slots="3", context_length=5000) == MemoryPlan(3, 5000)
    assert MemoryPlan(3, 5000).total_tokens == 3 * 5120


def test_more_context_than_the_model_has_is_refused() -> None:
    with pytest.raises(UsageError, match="131072"):
        plan(context_length=200000)

"""A model that cannot fit into memory is refused before it is loaded."""

from pathlib import Path

import pytest

from appliance.core.errors import ModelFileBad
from appliance.core.model_facts import EngineOptions
from appliance.models.demo import demo_model_path
from appliance.models.facts import describe_model
from appliance.roles.engine_choice import model_facts, refuse_without_memory
from tests.helpers.pulling import TINY

MIB = 1 << 20
GIB = 1 << 30


def options(**args: str) -> EngineOptions:
    return EngineOptions(served_name="m", args=args)


def test_the_refusal_shows_the_arithmetic() -> None:
    with pytest.raises(ModelFileBad, match=r"needs .* MiB but memory has 1 MiB.*weights.*KV cache"):
        refuse_without_memory(describe_model(demo_model_path()), options(), MIB)


def test_what_fits_passes() -> None:
    refuse_without_memory(describe_model(demo_model_path()), options(), 8 * GIB)


def test_what_the_user_asked_for_counts() -> None:
    facts = describe_model(demo_model_path())
    with pytest.raises(ModelFileBad, match="100000 x 8192"):
        refuse_without_memory(
            facts, EngineOptions(served_name="m", context_length=8192, args={"slots": "100000"}), 8 * GIB
        )


def test_layers_on_a_gpu_are_not_judged_by_main_memory() -> None:
    refuse_without_memory(describe_model(demo_model_path()), options(gpu_layers="99"), MIB)


def test_tensorrt_llm_takes_models_by_their_files_and_what_it_has_compiled(tmp_path: Path) -> None:
    assert "tokenizer.json" in model_facts("trtllm", str(TINY)).files
    (tmp_path / "rank0.engine").write_bytes(b"compiled")
    for model in (str(tmp_path), "org/name"):
        found = model_facts("trtllm", model)
        assert (found.name, found.files) == (model, {})

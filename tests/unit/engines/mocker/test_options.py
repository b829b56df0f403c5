"""The mocker's engine arguments, single ones and those of a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.mocker.options import MockerOptions, read_options
from appliance.simulation.profile_timing import ProfileTiming
from appliance.simulation.timing import FixedTiming, ModelledTiming, PolynomialTiming


def read(**args: str) -> MockerOptions:
    return read_options(EngineOptions(served_name="m", args=args))


def test_the_pace_is_fixed_unless_a_model_is_asked_for() -> None:
    assert read().timing == FixedTiming(step_ms=10)
    assert read(step_ms="0", prefill_ms_per_token="2").timing == FixedTiming(step_ms=0, prompt_ms_per_token=2)
    for args in ({"timing": "polynomial"}, {"speedup_ratio": "2"}, {"decode_speedup_ratio": "3"}):
        timing = read(**args).timing
        assert isinstance(timing, ModelledTiming)
        assert isinstance(timing.model, PolynomialTiming)
        assert timing.speedup_ratio == float(args.get("speedup_ratio", 1))


def test_a_profile_gives_the_times(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    axes = {name: [1, 2] for name in ("prefill_isl", "prefill_ttft_ms", "decode_active_kv_tokens")}
    path.write_text(json.dumps(axes | {"decode_context_length": [1], "decode_itl": [[1], [2]]}))
    timing = read(planner_profile_data=str(path)).timing
    assert isinstance(timing, ModelledTiming)
    assert isinstance(timing.model, ProfileTiming)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"step_ms": "1", "speedup_ratio": "2"}, "step_ms"),
        ({"timing": "fixed", "speedup_ratio": "2"}, "speedup_ratio"),
        ({"timing": "polynomial", "prefill_ms_per_token": "2"}, "prefill_ms_per_token"),
        ({"timing": "profile"}, "planner_profile_data"),
        ({"planner_profile_data": "/nonexistent"}, "cannot read"),
        ({"timing": "real"}, "timing"),
        ({"enable_prefix_caching": "maybe"}, "enable_prefix_caching"),
        ({"preemption_mode": "random"}, "preemption_mode"),
        ({"decode_speedup_ratio": "0"}, "decode_speedup_ratio"),
        ({"disaggregation_mode": "both"}, "disaggregation_mode"),
        ({"engine_type": "trtllm"}, "engine_type"),
        ({"reasoning": "{}"}, "start_thinking_token_id"),
        ({"extra_engine_args": "/nonexistent"}, "cannot read"),
    ],
)
def test_bad_arguments_are_refused_by_name(args: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read(**args)
    assert "\n" not in str(caught.value)


def test_upstream_names_mean_the_same() -> None:
    given = read(num_gpu_blocks_override="7", no_enable_prefix_caching="true", startup_time="2", block_size="0")
    assert (given.engine.num_gpu_blocks, given.engine.enable_prefix_caching, given.startup_ms) == (7, False, 2000)
    assert given.engine.block_size == 16


def test_pages_are_the_blocks_of_sglang() -> None:
    assert read(engine_type="sglang").engine.block_size == 1
    given = read(engine_type="sglang", sglang_page_size="32", sglang_schedule_policy="lpm").engine
    assert (given.block_size, given.sglang.schedule_policy) == (32, "lpm")


def write(folder: Path, content: Any) -> str:
    path = folder / "args.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_file_takes_the_place_of_single_arguments(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "num_gpu_blocks": 9, "enable_chunked_prefill": False, "worker_type": "decode", "speedup_ratio": 0.5,
            "engine_type": "sglang", "sglang": {"page_size": 8}, "startup_time": None,
            "reasoning": {"start_thinking_token_id": 1, "end_thinking_token_id": 2, "thinking_ratio": 0.5},
        },
    )  # fmt: skip
    given = read(extra_engine_args=path, num_gpu_blocks="5", max_num_seqs="3")
    engine = given.engine
    assert (engine.num_gpu_blocks, engine.max_num_seqs, engine.role, engine.block_size) == (9, 256, "decode", 8)
    assert not engine.enable_chunked_prefill
    assert given.reasoning is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ({"num_blocks": 1}, "known"),
        ({"sglang": 1}, "sglang"),
        ({"worker_type": "agg"}, "worker_type"),
        ({"worker_type": "prefill", "is_prefill": True}, "worker_type"),
        ({"is_prefill": True, "is_decode": True}, "both"),
        ({"num_gpu_blocks": 1.5}, "num_gpu_blocks"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read(extra_engine_args=write(tmp_path, content))


def test_older_switches_name_the_role(tmp_path: Path) -> None:
    assert read(extra_engine_args=write(tmp_path, {"is_prefill": True, "is_decode": False})).engine.role == "prefill"


def test_the_mode_stands_beside_a_file_that_names_no_role(tmp_path: Path) -> None:
    silent, says = write(tmp_path, {"block_size": 4}), tmp_path / "other.json"
    assert read(extra_engine_args=silent, disaggregation_mode="prefill").engine.role == "prefill"
    says.write_text('{"worker_type": "decode"}')
    assert read(extra_engine_args=str(says), **{"disaggregation-mode": "prefill"}).engine.role == "decode"

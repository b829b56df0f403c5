"""Engine arguments of foreign servers: ours, and those that become flags."""

import pytest

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.foreign.options import ForeignOptions, flag_words, read_options


def read(**args: str) -> ForeignOptions:
    return read_options("vllm", EngineOptions(served_name="m", args=args))


def test_what_is_not_ours_becomes_flags() -> None:
    given = read(
        **{"tensor-parallel-size": "2", "enable_lora": "true", "enable_prefix_caching": "false", "python": "p"}
    )
    assert given.python == "p"
    assert flag_words(given.passed) == [
        "--tensor-parallel-size", "2", "--enable-lora", "--no-enable-prefix-caching",
    ]  # fmt: skip
    assert "--no-enable-prefix-caching" not in flag_words(given.passed, negatable=False)


def test_several_words_are_several_values_but_json_is_one() -> None:
    given = read(cuda_graph_sizes="1 2 4", kv_transfer_config='{"kv_connector": "X", "kv_role": "kv_both"}')
    assert flag_words(given.passed) == [
        "--cuda-graph-sizes", "1", "2", "4",
        "--kv-transfer-config", '{"kv_connector": "X", "kv_role": "kv_both"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "role"),
    [
        ({}, "aggregated"),
        ({"is_prefill_worker": "true"}, "prefill"),
        ({"is-decode-worker": "true"}, "decode"),
        ({"disaggregation_mode": "prefill"}, "prefill"),
        ({"disaggregation_mode": "agg"}, "aggregated"),
    ],
)
def test_the_role_is_read_from_new_and_old_flags(args: dict[str, str], role: str) -> None:
    given = read(**args)
    assert given.role == role
    assert flag_words(given.passed) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"port": "1"}, "'port' cannot be passed"),
        ({"host": "0.0.0.0"}, "'host' cannot be passed"),
        ({"a b": "1"}, "cannot be passed"),
        ({"disaggregation_mode": "both"}, "disaggregation_mode='both'"),
        ({"kv_events": "yes"}, "kv_events='yes'"),
        ({"max_num_seqs": "0"}, "max_num_seqs"),
        ({"url": "ftp://x"}, "http://HOST:PORT"),
        ({"url": "http://u:p@x"}, "no password"),
        ({"api_key_file": "/does/not/exist"}, "cannot read"),
    ],
)
def test_wrong_arguments_are_named(args: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(**args)

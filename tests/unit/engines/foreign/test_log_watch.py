"""Log lines of starting servers: how far they are, and why they fail."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import ApplianceError, EngineFailed, ModelFileBad, UsageError
from appliance.engines.foreign.log_watch import LogWatch, PortTaken

VLLM_START = (
    b"INFO 11-21 10:00:00 [api_server.py:1] vLLM API server version 0.33.0\n"
    b"(EngineCore_DP0 pid=7) INFO [gpu_model_runner.py:1] Starting to load model m...\n"
    b"Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:01<00:03]\r"
    b"Loading safetensors checkpoint shards:  100% Completed | 4/4 [00:04<00:00]\n"
    b"INFO [kv_cache_utils.py:1] GPU KV cache size: 65,536 tokens\n"
    b"Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|#####     | 33/67\r"
    b"INFO:     Application startup complete.\n"
)


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("OSError: [Errno 98] Address already in use", PortTaken, "port"),
        ("vllm: error: unrecognized arguments: --no-such-flag 3", UsageError, "--no-such-flag 3"),
        ("api_server.py: error: argument --max-model-len: invalid int value", UsageError, "--max-model-len"),
        ("/usr/bin/python: No module named vllm", UsageError, "engine install vllm"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", EngineFailed, "memory"),
        ("ValueError: No available memory for the cache blocks.", EngineFailed, "memory"),
        ("ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored "
         "in KV cache (5000).", UsageError, "context length"),
        ("ValueError: Model architectures ['FooLM'] are not supported for now.", ModelFileBad, "architecture"),
        ("OSError: foo is not a local folder and is not a valid model identifier", ModelFileBad, "no such model"),
        ("RuntimeError: Failed to infer device type", EngineFailed, "GPU"),
        ("OSError: [Errno 28] No space left on device", EngineFailed, "disk"),
    ],
)  # fmt: skip
def test_known_fatal_lines_are_explained(line: str, kind: type[ApplianceError], words: str) -> None:
    watch = LogWatch("vllm")
    watch.push(f"Traceback (most recent call last):\n{line}\nmore\n".encode())
    assert type(watch.fault) is kind
    assert words in str(watch.fault)


def test_the_first_known_line_decides() -> None:
    watch = LogWatch("vllm")
    watch.push(b"CUDA out of memory\nOSError: [Errno 98] Address already in use\n")
    assert "memory" in str(watch.fault)


def test_an_ordinary_start_has_no_fault_and_only_gets_further() -> None:
    watch = LogWatch("vllm")
    seen = []
    for line in VLLM_START.splitlines(keepends=True):
        watch.push(line)
        seen.append(watch.progress.fraction)
    assert watch.fault is None
    assert seen == sorted(seen)
    assert seen[-1] > 0.9


@given(st.lists(st.integers(0, len(VLLM_START)), max_size=12))
def test_the_cuts_between_pieces_do_not_matter(cuts: list[int]) -> None:
    whole, cut = LogWatch("vllm"), LogWatch("vllm")
    lines = whole.push(VLLM_START)
    places = [0, *sorted(cuts), len(VLLM_START)]
    pieces = [VLLM_START[a:b] for a, b in pairwise(places)]
    assert [line for piece in pieces for line in cut.push(piece)] == lines
    assert cut.progress == whole.progress


def test_a_line_without_end_is_bounded() -> None:
    watch = LogWatch("vllm")
    for _ in range(100):
        watch.push(b"x" * 10_000)
    (line,) = watch.push(b"\n")
    assert len(line) <= 4096

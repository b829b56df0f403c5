"""TensorRT-LLM behind the front end: prompts go by token ids to the worker whose cache holds them."""

import sys
from pathlib import Path
from typing import Any

from tests.e2e.appliance_process import Appliance, appliance, eventually
from tests.helpers.pulling import TINY

STAND_IN = f"command={sys.executable} -m tests.fakes.engines.fake_trtllm"
APPLIED = "dynamo_component_kv_cache_events_applied"


def asked(one: Appliance, story: str) -> tuple[bool, dict[str, Any]]:
    """Whether some of the prompt was in a cache, and the worker."""
    prompt = f"Tell me {story}. " * 8
    body = one.chat("tiny", prompt, max_tokens=3, nvext={"extra_fields": ["worker_id"]})
    assert body["usage"]["completion_tokens"] == 3
    details = body["usage"].get("prompt_tokens_details") or {}
    return bool(details.get("cached_tokens")), body["nvext"]["worker_id"]


def stored(one: Appliance) -> int:
    """How many times the front end was told of blocks."""
    lines = one.get("/metrics").decode().splitlines()
    found = [line for line in lines if line.startswith(APPLIED) and 'event_type="stored"' in line]
    return sum(int(float(line.split()[-1])) for line in found)


def test_prompts_go_where_their_blocks_are(binary: str | None, tmp_path: Path) -> None:
    flags = ["--engine", "trtllm", "--engine-arg", STAND_IN, "--replicas", "2", "--router-mode", "kv"]
    with appliance(
        binary, tmp_path / "state", *flags, "--context-length", "2048", "--served-model-name", "tiny", str(TINY)
    ) as one:
        eventually(lambda: stored(one) == 2)  # of the question that each server was asked when it started
        for turn, story in enumerate(("of the sea", "of the land", "of the sky", "of all between"), start=3):
            known, first = asked(one, story)
            assert not known
            eventually(lambda turn=turn: stored(one) == turn)
            assert asked(one, story) == (True, first)

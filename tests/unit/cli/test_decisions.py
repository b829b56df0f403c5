"""Placements as a person reads them."""

from typing import Any

import pytest

from appliance.cli.decisions import print_decisions

REQUEST = {
    "id": "r-1",
    "model": "m",
    "endpoint": "chat_completions",
    "status": "success",
    "ttft_s": 0.02,
    "duration_s": 0.5,
    "prompt_tokens": 75,
    "output_tokens": 4,
    "error": "",
}


def placement(**members: Any) -> dict[str, Any]:
    scored = {"overlap_blocks": 4, "prefill_tokens": 0, "decode_blocks": 4, "cost": 9.5}
    return {
        "request": "r-1",
        "model": "m",
        "role": "aggregated",
        "time": 0.0,
        "mode": "kv",
        "worker": "w-1",
        "rank": 0,
        "reason": "lowest cost",
        "queue_wait_s": 0.0,
        "prompt_tokens": 75,
        "moved_from": [],
        "candidates": [
            {"worker": "w-1", "rank": 0, "instance": 11, "chosen": True, **scored},
            {"worker": "w-2", "rank": 0, "instance": 12, "chosen": False, "excluded": "busy"},
        ],
        **members,
    }


def shown(capsys: pytest.CaptureFixture[str], *placements: dict[str, Any], requests: list[Any] | None = None) -> str:
    print_decisions({"placements": placements, "requests": [REQUEST] if requests is None else requests})
    return capsys.readouterr().out


def test_candidates_scores_and_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, placement())
    assert "request r-1, model m, chat_completions, success, first token after 20 ms, took 500 ms" in text
    assert "on w-1, mode kv, 75 prompt tokens" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("w-")]
    assert rows == [["w-1", "11", "4", "0", "4", "9.5", "chosen"], ["w-2", "12", *"----", "left", "out:", "busy"]]


def test_waits_moves_ranks_and_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    moved = placement(queue_wait_s=0.25, moved_from=["w-0"], role="prefill")
    moved["candidates"][0]["rank"] = 1
    text = shown(capsys, moved, placement(worker=None, candidates=[], reason="all are overloaded"))
    assert "why: lowest cost; waited 250.0 ms in the queue; moved, as w-0 failed it" in text
    assert "prefill on w-1" in text
    assert "RANK" in text
    assert "on no worker" in text


def test_a_request_that_runs_and_one_that_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"id": "r-1", "model": "m", "endpoint": "completions", "prompt_tokens": 1, "output_tokens": 0}
    text = shown(capsys, placement(), placement(request="r-2"), requests=[running])
    assert "completions, running" in text
    assert "request r-2\n" in text

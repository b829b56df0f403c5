"""A model split into prefill and decode workers, and what becomes of requests when workers of either kind die."""

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.models.demo import demo_model_path
from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal

STEP_MS = 20


@pytest.fixture(scope="module")
def split(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    flags = ("--engine", "mocker", "--prefill", "1", "--decode", "2", "--hold-s", "20")
    pace = ("--engine-arg", f"step_ms={STEP_MS}", "--engine-arg", "kv_bytes_per_token=100000000")
    link = ("--engine-arg", "kv_transfer_bandwidth=10")
    with appliance(binary, tmp_path_factory.mktemp("split") / "state", *flags, *pace, *link, "m") as one:
        yield one


def half(one: Appliance, mode: str) -> list[psutil.Process]:
    """The worker processes of one kind."""
    found = []
    for process in one.workers():
        try:
            if mode in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def ready(one: Appliance) -> list[str]:
    """Components of the workers that are ready."""
    return sorted(row["component"] for row in one.status()["workers"] if row["phase"] == "ready")


def test_both_pools_serve_and_the_transfer_takes_its_time(split: Appliance) -> None:
    assert ready(split) == ["decode", "decode", "prefill"]
    answer = split.chat("m", "one two three", max_tokens=3, nvext={"extra_fields": ["timing"]})
    assert answer["usage"]["completion_tokens"] == 3
    assert b"dynamo_frontend_kv_transfer_estimated_latency_seconds_count" in split.get("/metrics")
    # 10 ms of transfer for each token of the prompt, on top of the steps.
    assert answer["nvext"]["timing"]["ttft_ms"] > answer["usage"]["prompt_tokens"] * 10


def test_killed_prefill_worker_costs_no_request(split: Appliance) -> None:
    (victim,) = half(split, "prefill")
    answers: list[int] = []
    text = "a long prompt " * 60  # so long that handing over outlasts a look at the status
    asking = threading.Thread(
        target=lambda: answers.append(split.chat("m", text, max_tokens=2)["usage"]["completion_tokens"])
    )
    asking.start()
    eventually(lambda: split.status()["active_requests"] == 1)
    victim.kill()
    asking.join(20)
    assert answers == [2]
    assert split.chat("m", "again", max_tokens=2)["usage"]["completion_tokens"] == 2
    eventually(lambda: ready(split) == ["decode", "decode", "prefill"])


def test_killed_decode_worker_costs_no_token(split: Appliance) -> None:
    streams = [open_stream(split, max_tokens=60) for _ in range(4)]  # so that both workers have some
    try:
        heads = [next_content(stream) for stream in streams]
        half(split, "decode")[0].kill()
        bodies = [head + stream.read() for head, stream in zip(heads, streams, strict=True)]
    finally:
        for stream in streams:
            stream.close()
    for body in bodies:
        assert b'"completion_tokens":60' in body
        assert b'"error"' not in body
    moved = [line for line in split.get("/metrics").decode().splitlines() if "model_migration_total{" in line]
    assert any('migration_type="ongoing_request"' in line for line in moved), moved
    eventually(lambda: ready(split) == ["decode", "decode", "prefill"])


@pytest.fixture(scope="module")
def meeting(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Halves that run at once and meet on the prefill worker, which takes 10 ms for each token of a prompt."""
    flags = ("--engine", "mocker", "--prefill", "1", "--decode", "1", "--hold-s", "20")
    pace = ("--engine-arg", "step_ms=1", "--engine-arg", "kv_bytes_per_token=100000000")
    link = ("--engine-arg", "kv_transfer_bandwidth=10", "--engine-arg", "bootstrap_port=0")
    with appliance(binary, tmp_path_factory.mktemp("meeting") / "state", *flags, *pace, *link, "m") as one:
        yield one


def meets(one: Appliance) -> bool:
    """Whether a decode worker is connected to the port of the prefill worker."""
    ports = {tcp.laddr.port for process in half(one, "prefill") for tcp in connections(process) if not tcp.raddr}
    return any(tcp.raddr and tcp.raddr.port in ports for each in half(one, "decode") for tcp in connections(each))


def connections(process: psutil.Process) -> list[Any]:
    try:
        return list(process.net_connections("tcp"))
    except psutil.Error:
        return []


def is_split(one: Appliance, model: str = "m") -> bool:
    """Whether requests are; the front end hears of workers one after the other, in any order."""
    answer = one.chat(model, "x", max_tokens=2, nvext={"extra_fields": ["worker_id"]})
    ids = answer["nvext"]["worker_id"]
    return bool(ids["prefill_worker_id"] != ids["decode_worker_id"])


def test_halves_meet_on_the_prefill_worker(meeting: Appliance) -> None:
    eventually(lambda: is_split(meeting))
    answers: list[dict[str, Any]] = []
    asked = {"max_tokens": 3, "nvext": {"extra_fields": ["timing", "worker_id"]}}
    asking = threading.Thread(target=lambda: answers.append(meeting.chat("m", "a long prompt " * 30, **asked)))
    asking.start()
    eventually(lambda: meets(meeting))
    asking.join(20)
    (answer,) = answers
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["nvext"]["timing"]["ttft_ms"] > answer["usage"]["prompt_tokens"] * 10
    ids = answer["nvext"]["worker_id"]
    assert ids["prefill_worker_id"] != ids["decode_worker_id"]
    assert not meets(meeting)


def test_prefill_worker_killed_during_the_meeting_costs_no_request(meeting: Appliance) -> None:
    (victim,) = half(meeting, "prefill")
    answers: list[int] = []
    text = "a long prompt " * 120
    asking = threading.Thread(
        target=lambda: answers.append(meeting.chat("m", text, max_tokens=2)["usage"]["completion_tokens"])
    )
    asking.start()
    eventually(lambda: meets(meeting))
    victim.kill()
    asking.join(30)
    assert answers == [2]
    assert any(
        line.startswith("dynamo_frontend_model_migration_total{") and not line.endswith(" 0")
        for line in meeting.get("/metrics").decode().splitlines()
    ), "the request was moved"
    eventually(lambda: ready(meeting) == ["decode", "prefill"])
    eventually(lambda: is_split(meeting))  # the halves meet at the new one's port


def open_stream(one: Appliance, **more: Any) -> Any:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        **more,
    }
    request = urllib.request.Request(
        one.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=60)


def next_content(stream: Any) -> bytes:
    """The stream up to its first text."""
    read = b""
    while b'"content":"' not in read.replace(b'"content":""', b""):
        read += stream.readline()
    return read


def test_pools_scale_by_themselves(split: Appliance) -> None:
    split.cli("scale", "prefill", "--replicas", "2")
    split.cli("scale", "decode", "--replicas", "1")
    eventually(lambda: ready(split) == ["decode", "prefill", "prefill"])
    assert split.chat("m", "x", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_half_a_split_is_a_usage_error(binary: str | None, tmp_path: Path) -> None:
    done = Appliance(binary, tmp_path / "state").run("serve", "--prefill", "1", "--engine", "mocker", "m")
    assert done.returncode == 2
    assert "a split model has workers of both kinds" in done.stderr


GRAPH = """
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: typed}
spec:
  components:
  - {name: frontend, type: frontend}
  - {name: first, type: prefill, podTemplate: {spec: {containers: [&main {name: main, args: %s}]}}}
  - {name: second, type: decode, podTemplate: {spec: {containers: [*main]}}}
"""


def test_types_of_a_manifest_are_enough_to_split_a_model(binary: str | None, tmp_path: Path) -> None:
    manifest = tmp_path / "graph.yaml"
    manifest.write_text(GRAPH % '[worker, --engine, mocker, --model, m, --engine-arg, "step_ms=1"]')
    with appliance(binary, tmp_path / "state", "-f", str(manifest)) as one:
        eventually(lambda: is_split(one))


def test_decode_workers_of_sglang_serve_nothing_alone(binary: str | None, tmp_path: Path) -> None:
    server = f"command={sys.executable} -m tests.fakes.engines.fake_sglang"
    flags = ("--engine", "sglang", "--engine-arg", server, "--context-length", "512", "--served-model-name", "m")
    halves = ("--prefill", "1", "--decode", "1", "--hold-s", "1")
    with appliance(binary, tmp_path / "state", *flags, *halves, str(demo_model_path())) as one:
        eventually(lambda: is_split(one))
        one.cli("scale", "prefill", "--replicas", "0")
        eventually(lambda: ready(one) == ["decode"])
        eventually(lambda: one.status()["models"][0]["phase"] != "ready")
        status, body = refusal(lambda: one.chat("m", "x"))
        assert (status, body["error"]["code"]) == (503, "model_not_ready")
        assert "model 'm' has no ready prefill worker" in body["error"]["message"]
        one.cli("scale", "prefill", "--replicas", "1")
        eventually(lambda: ready(one) == ["decode", "prefill"])
        eventually(lambda: one.status()["models"][0]["phase"] == "ready")
        assert is_split(one)


def test_demo_model_hands_real_caches_over(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--prefill", "1", "--decode", "1") as one:
        (model,) = one.models
        eventually(lambda: is_split(one, model))
        answer = one.chat(model, "What is a KV cache?", nvext={"extra_fields": ["worker_id"]})
        assert answer["choices"][0]["message"]["content"].startswith("A KV cache keeps the keys and values")
        usage = answer["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
        ids = answer["nvext"]["worker_id"]
        assert ids["prefill_worker_id"] != ids["decode_worker_id"]
        half(one, "prefill")[0].kill()
        assert one.chat(model, "What is a KV cache?")["choices"][0]["message"] == answer["choices"][0]["message"]

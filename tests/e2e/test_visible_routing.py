"""Routing that can be watched and changed while it runs: metrics, `why`, nvext, dry runs, thresholds, settings."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal

PROMPT = "the same words come again and again " * 12
SENT = 4
FE, ROUTER, WORKER = "dynamo_frontend_", "dynamo_component_router_", "dynamo_component_"


@pytest.fixture(scope="module")
def one(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    state = tmp_path_factory.mktemp("routing") / "state"
    arguments = ("--engine", "mocker", "--replicas", "2", "--router-mode", "kv")
    blocks = ("--engine-arg", "num_gpu_blocks=128")
    with appliance(binary, state, "m", *arguments, *blocks) as running:
        yield running


def samples(one: Appliance) -> dict[str, float]:
    """The values of a scrape by name, summed over labels; buckets are left out."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(one.get("/metrics").decode()):
        for sample in family.samples:
            if "le" not in sample.labels:
                found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def ask(one: Appliance, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        one.url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def chat(text: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 3, **more}


def instance_ids(one: Appliance) -> set[int]:
    return {row["instance_id"] for row in json.loads(one.get("/health"))["instances"]}


def test_metrics_add_up_after_requests(one: Appliance) -> None:
    eventually(lambda: len(instance_ids(one)) == 2)
    for _ in range(SENT):
        ask(one, "/v1/chat/completions", chat())
    eventually(lambda: samples(one)[WORKER + "requests_total"] == SENT)
    found = samples(one)
    for name in (
        FE + "requests_total",
        FE + "request_duration_seconds_count",
        FE + "time_to_first_token_seconds_count",
        FE + "kv_hit_rate_count",
        FE + "tokenize_seconds_count",
        FE + "template_seconds_count",
        ROUTER + "requests_total",
        ROUTER + "time_to_first_token_seconds_count",
        ROUTER + "kv_hit_rate_count",
        "dynamo_request_plane_send_seconds_count",
        "dynamo_request_plane_roundtrip_ttft_seconds_count",
        WORKER + "request_duration_seconds_count",
    ):
        assert found[name] == SENT, name
    assert found["dynamo_router_overhead_block_hashing_ms_count"] >= 1  # not every placement is timed
    assert found["dynamo_router_overhead_total_ms_count"] >= 1
    assert found[FE + "output_tokens_total"] == found[FE + "detokenize_token_count_total"] == 3 * SENT
    assert found[FE + "kv_hit_rate_sum"] == found[ROUTER + "kv_hit_rate_sum"] > SENT / 2
    assert found[FE + "stage_duration_seconds_count"] == 4 * SENT
    assert found[WORKER + "kv_cache_events_applied_total"] > 0
    assert found[WORKER + "kvstats_total_blocks"] == 2 * 128
    for name in ("stage_requests", "active_requests", "router_queue_pending_requests", "worker_active_decode_blocks"):
        assert found[FE + name] == 0, name


def test_an_answer_says_where_it_was_made(one: Appliance) -> None:
    wanted = {"extra_fields": ["worker_id", "timing"]}
    document = ask(one, "/v1/chat/completions", chat(nvext=wanted))
    workers, timing = document["nvext"]["worker_id"], document["nvext"]["timing"]
    assert workers["decode_worker_id"] == workers["prefill_worker_id"] in instance_ids(one)
    assert (workers["decode_dp_rank"], workers["prefill_dp_rank"]) == (0, 0)
    assert timing["kv_hit_rate"] > 0.5
    assert timing["router_queue_depth"] == 0
    assert 0 <= timing["prefill_wait_time_ms"] <= timing["ttft_ms"] <= timing["total_time_ms"]
    assert timing["prefill_wait_time_ms"] + timing["prefill_time_ms"] == pytest.approx(timing["ttft_ms"], abs=0.01)
    with urllib.request.urlopen(
        urllib.request.Request(
            one.url + "/v1/chat/completions",
            json.dumps(chat(stream=True, nvext=wanted)).encode(),
            {"Content-Type": "application/json"},
        ),
        timeout=30,
    ) as answer:
        events = [json.loads(line[6:]) for line in answer.read().splitlines() if line.startswith(b"data: {")]
    assert events[-1]["nvext"]["worker_id"] == workers
    assert all("nvext" not in event for event in events[:-1])


@pytest.mark.parametrize("stream", [True, False])
def test_a_dry_run_runs_nothing(one: Appliance, stream: bool) -> None:
    before = samples(one)
    body = json.dumps(chat(stream=stream, nvext={"annotations": ["query_instance_id:"]})).encode()
    request = urllib.request.Request(one.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    if stream:
        event, done = text.strip().split("\n\n")
        assert done == "data: [DONE]"
        text = event.removeprefix("data: ")
    nvext = json.loads(text)["nvext"]
    assert nvext["worker_id"]["decode_worker_id"] in instance_ids(one)
    assert len(nvext["token_ids"]) > 16
    after = samples(one)
    assert after[WORKER + "requests_total"] == before[WORKER + "requests_total"]
    assert after[ROUTER + "requests_total"] == before[ROUTER + "requests_total"]


def test_why_shows_the_candidates(one: Appliance) -> None:
    document = ask(one, "/v1/chat/completions", chat(), {"x-request-id": "mine/1"})
    by_id = json.loads(one.cli("why", document["id"], "--json"))
    by_name = json.loads(one.cli("why", "mine/1", "--json"))
    (placement,), (request,) = by_id["placements"], by_id["requests"]
    assert by_name["requests"] == [request]
    assert by_name["placements"][0] | {"time": 0} == placement | {"time": 0}
    assert (request["status"], request["output_tokens"]) == ("success", 3)
    assert placement["reason"] == "lowest cost"
    (chosen,) = [row for row in placement["candidates"] if row["chosen"]]
    assert (len(placement["candidates"]), chosen["worker"]) == (2, placement["worker"])
    assert chosen["overlap_blocks"] > 0
    assert chosen["cost"] < min(row["cost"] for row in placement["candidates"] if not row["chosen"])
    text = one.cli("why", document["id"])
    assert "OVERLAP BLOCKS" in text
    assert "chosen" in text
    assert one.run("why", "chatcmpl-none").returncode == 1


def test_busy_workers_turn_requests_away(one: Appliance) -> None:
    default = json.loads(one.get("/busy_threshold"))["thresholds"]
    assert default == [ask(one, "/busy_threshold", {"model": "m"})]
    changed = ask(one, "/busy_threshold", {"model": "m", "active_decode_blocks_threshold": 0.0})
    assert changed == default[0] | {"active_decode_blocks_threshold": 0.0}
    assert json.loads(one.get("/busy_threshold"))["thresholds"] == [changed]
    one.cli("config", "set", "router.mode=random")  # which books nothing: only the workers' own reports count
    slow = json.dumps(chat("other words " * 40, max_tokens=1500, stream=True)).encode()
    request = urllib.request.Request(one.url + "/v1/chat/completions", slow, {"Content-Type": "application/json"})
    with ExitStack() as streams:
        while True:  # until both workers have one and have said so; 1500 tokens take longer than that
            try:
                streams.enter_context(urllib.request.urlopen(request, timeout=30))
            except urllib.error.HTTPError as error:
                refused = error
                break
            time.sleep(0.05)
        with refused:
            assert (refused.code, refused.headers["retry-after"]) == (503, "1")
            assert json.load(refused)["error"]["type"] == "rate_limit_error"
    assert samples(one)[FE + "model_rejection_total"] >= 1
    ask(one, "/busy_threshold", {"model": "m", "active_decode_blocks_threshold": None})
    eventually(lambda: is_served(one))
    events = [row["action"] for row in json.loads(one.cli("why", "m", "--json"))]
    assert events.count("threshold") == 2
    assert refusal(lambda: ask(one, "/busy_threshold", {"model": "x"}))[0] == 404


def is_served(one: Appliance) -> bool:
    try:
        ask(one, "/v1/chat/completions", chat("hi"))
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def test_settings_change_while_it_runs(one: Appliance) -> None:
    changed = json.loads(one.cli("config", "set", "router.mode=kv", "router.temperature=0.25", "--json"))
    assert changed["router.temperature"] == {"old": 0.0, "new": 0.25}
    assert json.loads(one.cli("config", "show", "--running"))["router"]["temperature"] == 0.25
    # The index was dropped with the mode; the workers are asked what they hold.
    eventually(
        lambda: (
            ask(one, "/v1/chat/completions", chat(nvext={"extra_fields": ["timing"]}))["nvext"]["timing"].get(
                "kv_hit_rate", 0
            )
            > 0.5
        )
    )
    (last,) = json.loads(one.cli("why", "appliance", "-n", "1", "--json"))
    assert last["action"] == "configure"
    assert last["inputs"]["router.temperature"] == "0.0 -> 0.25"
    both = one.run("config", "set", "router.temperature=9", "router.ttl_s=-1")
    assert both.returncode == 1
    assert json.loads(one.cli("config", "show", "--running"))["router"]["temperature"] == 0.25

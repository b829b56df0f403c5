"""Metric cells, merging over processes and the Prometheus text."""

import pytest

from appliance.telemetry.cells import Metrics, merge_series
from appliance.telemetry.metric_table import LARGEST
from appliance.telemetry.metrics import TABLE, render

REQUESTS = "dynamo_frontend_requests_total"
TTFT = "dynamo_frontend_time_to_first_token_seconds"


def test_text_of_a_counter_and_a_histogram() -> None:
    metrics = Metrics(TABLE)
    metrics.cell(REQUESTS, "m", "chat_completions", "stream", "success", "").add(3)
    metrics.histogram(TTFT, "m").observe_all([0.001, 0.02, 1000.0])
    text = render(metrics.series()).decode()
    assert "# TYPE dynamo_frontend_requests_total counter" in text
    assert (
        'dynamo_frontend_requests_total{endpoint="chat_completions",error_type="",model="m",'
        'request_type="stream",status="success"} 3.0' in text
    )
    assert f'{TTFT}_bucket{{le="0.0022",model="m"}} 1.0' in text
    assert f'{TTFT}_bucket{{le="480.0",model="m"}} 2.0' in text
    assert f'{TTFT}_bucket{{le="+Inf",model="m"}} 3.0' in text
    assert f'{TTFT}_count{{model="m"}} 3.0' in text
    assert f'{TTFT}_sum{{model="m"}} 1000.021' in text


def test_processes_add_up() -> None:
    one, two = Metrics(TABLE), Metrics(TABLE)
    for metrics, tokens in ((one, 5), (two, 7)):
        metrics.cell("dynamo_frontend_output_tokens_total", "m").add(tokens)
        metrics.histogram(TTFT, "m").observe(0.5)
    merged = {s.name: s.values for s in merge_series([one.series(), two.series()])}
    assert merged["dynamo_frontend_output_tokens_total"] == [12]
    assert sum(merged[TTFT][:-1]) == 2
    assert merged[TTFT][-1] == 1.0


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        Metrics(TABLE).cell(REQUESTS, "m")


def test_names_are_unique() -> None:
    assert len({spec.name for spec in TABLE}) == len(TABLE)


def test_a_counter_without_total_in_its_name_stays_a_counter() -> None:
    metrics = Metrics(TABLE)
    metrics.cell("dynamo_component_kv_cache_events_applied", "stored", "ok").add(3)
    text = render(metrics.series()).decode()
    assert "# TYPE dynamo_component_kv_cache_events_applied counter\n" in text
    assert 'dynamo_component_kv_cache_events_applied{event_type="stored",status="ok"} 3.0' in text


def test_what_two_front_ends_say_of_one_worker_is_not_added_up() -> None:
    one, two = Metrics(TABLE), Metrics(TABLE)
    for metrics, blocks in ((one, 5), (two, 7)):
        metrics.cell("dynamo_frontend_worker_active_decode_blocks", "1", "0", "decode").set(blocks)
        metrics.cell("dynamo_frontend_active_requests", "m").set(blocks)
    merged = {s.name: s.values for s in merge_series([one.series(), two.series()], LARGEST)}
    assert merged["dynamo_frontend_worker_active_decode_blocks"] == [7]
    assert merged["dynamo_frontend_active_requests"] == [12]


def test_the_prefix_of_the_front_ends_can_be_another() -> None:
    metrics = Metrics(TABLE)
    metrics.cell("dynamo_frontend_active_requests", "dynamo_frontend_x").add()
    metrics.cell("dynamo_component_uptime_seconds", "1").add()
    lines = render(metrics.series(), "mine").decode().splitlines()
    assert 'mine_active_requests{model="dynamo_frontend_x"} 1.0' in lines
    assert "# TYPE mine_active_requests gauge" in lines
    assert 'dynamo_component_uptime_seconds{worker_id="1"} 1.0' in lines

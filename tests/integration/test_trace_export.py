"""Spans and a collector that is there, slow, refusing, away, and back again."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from appliance.core.settings import TraceSettings
from appliance.roles.trace_export import BATCH_SPANS, TRACE_SPANS, ExportPace, TraceExporter
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE
from appliance.telemetry.spans import FinishedSpan
from tests.helpers.collector import Collector, serve_collector
from tests.helpers.waiting import until

QUICK = ExportPace(gather_s=0.01, first_retry_s=0.01, longest_retry_s=0.05, flush_s=5)
HASTY = replace(QUICK, answer_s=0.1, flush_s=0.3)


def span(number: int = 1) -> FinishedSpan:
    return FinishedSpan(
        name="s",
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_id="",
        start_ns=1,
        end_ns=2,
        attributes={"number": number},
    )


class Rig:
    def __init__(self, url: str, queue_spans: int = 2048, pace: ExportPace = QUICK) -> None:
        self.metrics = Metrics(TABLE)
        settings = TraceSettings(enabled=True, endpoint=url, queue_spans=queue_spans)
        self.exporter = TraceExporter(settings, role="test", instance="t-0", metrics=self.metrics, pace=pace)

    def count(self, fate: str) -> float:
        return self.metrics.cell(TRACE_SPANS, fate).value


@asynccontextmanager
async def exporting(rig: Rig) -> AsyncIterator[TraceExporter]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.exporter.run)
        yield rig.exporter
        await rig.exporter.flush()


def numbers(collector: Collector) -> list[int]:
    return [one["attributes"]["number"] for one in collector.spans]


async def test_spans_arrive_in_batches_with_who_sent_them() -> None:
    collector = Collector()
    with serve_collector(collector):
        rig = Rig(collector.url)
        async with exporting(rig) as exporter:
            for number in range(BATCH_SPANS + 10):
                exporter.add(span(number))
            await until(lambda: rig.count("exported") == BATCH_SPANS + 10)
    assert collector.posts == 2
    assert numbers(collector) == list(range(BATCH_SPANS + 10))
    assert collector.paths == {"/v1/traces"}
    assert collector.spans[0]["attributes"]["service.name"] == "dynamo"
    assert collector.spans[0]["attributes"]["service.instance.id"] == "t-0"


@pytest.mark.parametrize("trouble", ["down", "500", "slow"])
async def test_a_collector_that_comes_back_gets_everything(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    collector = Collector(status=500 if trouble == "500" else 200, delay_s=0.3 if trouble == "slow" else 0)
    with serve_collector(collector):
        pass  # it has a port now
    rig = Rig(collector.url, pace=HASTY if trouble == "slow" else QUICK)
    async with exporting(rig) as exporter:
        if trouble == "down":
            exporter.add(span())
            await until(lambda: "cannot send traces" in caplog.text)
        else:
            with serve_collector(collector):
                exporter.add(span())
                await until(lambda: collector.posts >= 2)
        collector.status, collector.delay_s = 200, 0.0
        with serve_collector(collector):
            await until(lambda: rig.count("exported") == 1)
    assert 1 in numbers(collector)
    assert caplog.text.count("cannot send traces") == 1
    assert caplog.text.count("traces are sent again") == 1


async def test_a_batch_that_is_refused_for_good_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector(status=400)
    with serve_collector(collector):
        rig = Rig(collector.url)
        async with exporting(rig) as exporter:
            exporter.add(span())
            await until(lambda: rig.count("dropped") == 1)
            assert collector.posts == 1
            collector.status = 200
            exporter.add(span(2))
            await until(lambda: rig.count("exported") == 1)
    assert numbers(collector) == [2]
    assert "it answers 400" in caplog.text


async def test_a_full_queue_drops_the_latest_and_counts_them() -> None:
    collector = Collector()
    with serve_collector(collector):
        pass
    rig = Rig(collector.url, queue_spans=5)
    for number in range(8):
        rig.exporter.add(span(number))  # nothing runs: this is what requests do, and it never waits
    with serve_collector(collector):
        async with exporting(rig):
            await until(lambda: rig.count("exported") == 5)
    assert numbers(collector) == [0, 1, 2, 3, 4]
    assert rig.count("dropped") == 3


async def test_the_last_spans_are_sent_at_the_end() -> None:
    collector = Collector()
    with serve_collector(collector):
        rig = Rig(collector.url)
        rig.exporter.add(span())
        with trio.CancelScope() as stopping:
            stopping.cancel()
            await rig.exporter.flush()
    assert numbers(collector) == [1]


async def test_the_end_does_not_wait_for_a_collector_that_hangs() -> None:
    collector = Collector(delay_s=2)
    with serve_collector(collector):
        rig = Rig(collector.url, pace=replace(HASTY, answer_s=60))
        rig.exporter.add(span())
        with trio.fail_after(0.5 + HASTY.flush_s):
            await rig.exporter.flush()
    assert rig.count("dropped") == 1


async def test_the_port_of_grpc_is_named(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("http://127.0.0.1:4317")
    rig.exporter.add(span())
    await rig.exporter.flush()
    assert "OTLP over HTTP is at port 4318" in caplog.text

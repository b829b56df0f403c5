"""How late the event loop is: drift of a short sleep, the first sign of a process that has too much to do."""

import trio

from appliance.telemetry.cells import Metrics

SLEEP_S = 0.01
STALL_S = 0.005
PAUSE_S = 0.5  # between two looks: a sleep costs as much CPU as a token


async def watch_event_loop(metrics: Metrics) -> None:
    """Measure for ever."""
    delay = metrics.histogram("dynamo_frontend_event_loop_delay_seconds")
    stalls = metrics.cell("dynamo_frontend_event_loop_stall_total")
    while True:
        await trio.sleep(PAUSE_S)
        before = trio.current_time()
        await trio.sleep(SLEEP_S)
        late = max(0.0, trio.current_time() - before - SLEEP_S)
        delay.observe(late)
        if late > STALL_S:
            stalls.add()

"""Subscriptions in their life, on real sockets."""

from pathlib import Path

import trio
import trio.testing

from appliance.events.zmq_publisher import publishing
from appliance.events.zmq_sockets import MESSAGES_PER_TURN
from appliance.events.zmq_subscriber import Source
from appliance.roles.indexer.listeners import ListenerStatus, listening
from tests.helpers.waiting import until
from tests.helpers.zmq_publishers import BLOCK_SIZE, Recorder, ipc, stored

PATIENCE_S = 10.0


async def test_a_closed_subscription_feeds_nothing_more(tmp_path: Path) -> None:
    endpoint, replays = ipc(tmp_path, "e"), ipc(tmp_path, "r")
    async with listening() as listeners, publishing(listeners.context, endpoint, replays) as publisher:
        for name in range(20 * MESSAGES_PER_TURN):
            publisher.publish([stored(name)])
        recorder = Recorder()
        listener = listeners.start(Source(endpoint=endpoint, replay_endpoint=replays), BLOCK_SIZE, recorder)
        await until(lambda: recorder.told, PATIENCE_S)
        listeners.close(listener)
        told = len(recorder.told)
        assert told < 20 * MESSAGES_PER_TURN
        await trio.testing.wait_all_tasks_blocked()
        assert len(recorder.told) == told
        assert listeners.totals().batches >= told
        assert not listeners.statuses()


async def test_an_endpoint_that_cannot_be_used_fails_alone(tmp_path: Path) -> None:
    endpoint = ipc(tmp_path, "e")
    async with listening() as listeners, publishing(listeners.context, endpoint):
        too_long = Source(endpoint=f"ipc://{tmp_path}/{'x' * 200}")
        failed = listeners.start(too_long, BLOCK_SIZE, Recorder())
        good = listeners.start(Source(endpoint=endpoint), BLOCK_SIZE, Recorder())
        await until(lambda: good.status is ListenerStatus.ACTIVE, PATIENCE_S)
        assert failed.status is ListenerStatus.FAILED
        good.pause()
        good.pause()
        assert good.status is ListenerStatus.PAUSED
        good.resume()
        await until(lambda: good.status is ListenerStatus.ACTIVE, PATIENCE_S)
        assert listeners.statuses() == {ListenerStatus.FAILED: 1, ListenerStatus.ACTIVE: 1}

"""Asks every serving process now and then how it is, and has those replaced that do no work."""

from collections.abc import Callable

import trio

from appliance.core.errors import ApplianceError
from appliance.core.identity import WorkerId
from appliance.core.settings import SupervisionSettings
from appliance.supervision.liveness import LifeSign, Liveness
from appliance.supervision.supervisor import Supervisor
from appliance.transport.bus_server import BusChild, BusServer
from appliance.wire.bus_messages import LIFE


async def watch_liveness(bus: BusServer, supervisor: Supervisor, settings: Callable[[], SupervisionSettings]) -> None:
    """Watch for ever. A process that is not on the bus is not watched: it ends by itself without one."""
    watched: dict[WorkerId, Liveness] = {}
    while True:
        await trio.sleep(settings().heartbeat_s)
        serving = {view.id for view in supervisor.views() if view.phase == "ready"}
        children = {WorkerId(child.id): child for child in bus.children() if child.id in serving}
        now = trio.current_time()
        watched = {id: watched.get(id) or Liveness.begin(now) for id in children}
        async with trio.open_nursery() as nursery:
            for id, child in children.items():
                nursery.start_soon(_ask, child, watched[id], settings().heartbeat_s)
        for id, liveness in watched.items():
            complaint = liveness.complaint(settings(), trio.current_time())
            if complaint is not None:
                supervisor.on_stalled(id, complaint)


async def _ask(child: BusChild, liveness: Liveness, deadline_s: float) -> None:
    try:
        answer = await child.pull(LIFE, deadline_s)
    except ApplianceError:
        return  # silence counts by itself
    sign = LifeSign(busy=False, progress=0) if answer is None else LifeSign(**answer)
    liveness.on_sign(sign, trio.current_time())

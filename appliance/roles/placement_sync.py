"""One front end's part in what all of them know of the load: its router tells the others over the bus, and hears them.

It begins empty and converges as older streams end. A front end that leaves the bus takes its streams with it; a stream
whose end is never told, because reports were lost on the way to somebody slow, is dropped after a long while.
"""

import logging
from functools import partial

import trio

from appliance.core.errors import LinkBroken
from appliance.events.placement_reports import PlacementReporter, read_reports
from appliance.routing.router import Router
from appliance.transport.bus_client import BusClient
from appliance.wire.bus_messages import FrontEndGone, PlacementReports

log = logging.getLogger(__name__)

EXPIRY_S = 3600.0
LOOK_EVERY_S = 30.0


class PlacementSync:
    """Made before the router, which reports to `reporter.report`."""

    def __init__(self) -> None:
        self.reporter = PlacementReporter()

    async def run(self, router: Router, bus: BusClient) -> None:
        """Tell and hear until cancelled."""
        bus.hear_others(partial(self._take, router))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.reporter.run, partial(_send, bus))
            while True:
                await trio.sleep(LOOK_EVERY_S)
                if dropped := router.expire_replicas(EXPIRY_S):
                    log.warning("dropped streams of other front ends whose end was never told count=%s", dropped)

    def _take(self, router: Router, message: PlacementReports | FrontEndGone) -> None:
        if isinstance(message, FrontEndGone):
            router.drop_replica(message.id)
            return
        try:
            events = read_reports(message.data)
        except LinkBroken as fault:  # the fault of another front end: it must not end this one
            log.warning(fault.message)
            return
        for event in events:
            router.apply_replica(event)


def _send(bus: BusClient, data: bytes) -> bool:
    if bus.backlog_bytes:
        return False
    bus.post(PlacementReports(data))
    return True

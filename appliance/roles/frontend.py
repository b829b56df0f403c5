"""The front-end role under a supervisor, which tells it over the bus what exists."""

from functools import partial

import trio

from appliance.core.errors import InternalError
from appliance.core.paths import control_socket_beside
from appliance.roles.demand_reports import report_demand
from appliance.roles.frontend_recall import recall
from appliance.roles.frontend_serving import FrontEnd
from appliance.roles.launching import run_role
from appliance.roles.options import FrontendOptions
from appliance.roles.placement_sync import PlacementSync
from appliance.roles.signals import watch_stop_signals
from appliance.transport.bus_client import BusClient, connect_bus
from appliance.web.sockets import adopt
from appliance.wire.bus_messages import ChildHello, LastTotals, Picture, Ready, Stop


def run_frontend(options: FrontendOptions) -> int:
    """Serve until stopped; the exit code."""
    settings = options.settings
    return run_role(_SupervisedFrontEnd(options).run, options.child, settings.log, role="frontend", debug=options.debug)


class _SupervisedFrontEnd:
    """One front-end process on the bus."""

    def __init__(self, options: FrontendOptions) -> None:
        if options.child.bus_socket is None:
            raise InternalError("a supervised front end needs a bus")
        self._bus_socket = options.child.bus_socket
        self._fds = options.child.listen_fds
        self._sync = PlacementSync()
        name = options.child.worker_id or "frontend"
        self._front_end = FrontEnd(name, options.settings, report=self._sync.reporter.report)

    async def run(self) -> None:
        front_end = self._front_end
        sockets = adopt(self._fds)
        async with connect_bus(self._bus_socket, ChildHello("frontend", front_end.name, 0)) as bus:
            bus.answer("metrics", front_end.measures.series)
            bus.answer("requests", front_end.accounts.snapshot)
            bus.answer("ended_requests", front_end.accounts.ended)
            bus.answer("load", front_end.accounts.load)
            async with trio.open_nursery() as nursery:
                # An orderly stop comes over the bus; a signal means that its time is over.
                cancel = nursery.cancel_scope.cancel
                await nursery.start(watch_stop_signals, cancel, cancel)
                nursery.start_soon(self._sync.run, front_end.router, bus)
                first = await anext(aiter(bus))
                if isinstance(first, Picture):
                    front_end.open(nursery, first)
                    bus.answer_about(
                        "why", partial(recall, front_end.service.client_ids, front_end.router, front_end.accounts)
                    )
                    nursery.start_soon(report_demand, bus, front_end.router, front_end.accounts)
                    await front_end.listen(nursery, sockets, control_socket_beside(self._bus_socket))
                    await bus.send(Ready())
                    await self._follow(bus)
                nursery.cancel_scope.cancel()

    async def _follow(self, bus: BusClient) -> None:
        """Take in pictures until told to stop; without a supervisor there is nothing to go on for.

        While it drains it goes on doing so: held requests wait for workers that are still to come.
        """
        leaving = False
        async with trio.open_nursery() as nursery:
            async for message in bus:
                if isinstance(message, Picture):
                    self._front_end.apply(message)
                elif isinstance(message, Stop) and not leaving:
                    leaving = True
                    nursery.start_soon(self._leave, bus, message, nursery.cancel_scope)
            nursery.cancel_scope.cancel()

    async def _leave(self, bus: BusClient, stop: Stop, following: trio.CancelScope) -> None:
        await self._front_end.drain(stop.drain_s, stop.idle_s)
        bus.post(LastTotals(self._front_end.measures.series()))
        following.cancel()

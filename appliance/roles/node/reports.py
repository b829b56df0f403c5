"""The supervisor's end of the bus: child reports go to supervision, pictures go to front ends."""

import logging

import trio

from appliance.core.errors import NotRunning
from appliance.core.identity import WorkerId
from appliance.roles.node.board import Board
from appliance.roles.node.demand import DemandBoard
from appliance.roles.node.front_end_totals import FrontEndTotals
from appliance.roles.node.sleep import Sleepers
from appliance.supervision.supervisor import Supervisor
from appliance.transport.bus_server import BusChild, BusServer, ChildReport
from appliance.wire.bus_messages import (
    Demand,
    FrontEndGone,
    LastTotals,
    PlacementReports,
    Progress,
    Ready,
    SleepFailed,
    Slept,
    StartFailed,
    Stop,
    Woke,
)

log = logging.getLogger(__name__)

FRONTEND = "frontend"


class ChildReports:
    """A `BusHandler`: what children say is handed to the supervisor; a new front end gets the picture at once."""

    def __init__(self) -> None:
        self._supervisor: Supervisor | None = None
        self._board: Board | None = None
        self._bus: BusServer | None = None
        self.totals = FrontEndTotals()
        self._demand: DemandBoard | None = None
        self._sleepers: Sleepers | None = None

    def attach(self, supervisor: Supervisor, board: Board) -> None:
        """Whom to tell; called before any child is started."""
        self._supervisor, self._board = supervisor, board

    def relay_over(self, bus: BusServer) -> None:
        """Pass on what front ends report to each other; called before any child is started."""
        self._bus = bus

    def tell_demand(self, demand: DemandBoard) -> None:
        """Who hears what models requests are for."""
        self._demand = demand

    def tell_sleep(self, sleepers: Sleepers) -> None:
        """Who hears what became of orders to sleep and to wake."""
        self._sleepers = sleepers

    def on_hello(self, child: BusChild) -> None:
        if child.role == FRONTEND and self._board is not None:
            child.push(self._board.picture())

    def on_message(self, child: BusChild, message: ChildReport) -> None:
        if isinstance(message, PlacementReports):
            if self._bus is not None:
                self._bus.relay(child, message)
            return
        if self._supervisor is None or self._sleepers is None:
            return
        worker = WorkerId(child.id)
        match message:
            case Progress(fraction, text):
                self._supervisor.on_progress(worker, fraction, text)
            case Ready(card):
                self._supervisor.on_ready(worker, card)
            case StartFailed(code, reason, final):
                self._supervisor.on_start_failed(worker, code, reason, final)
            case Demand(models) if self._demand is not None:
                self._demand.note(child.id, models)
            case Slept():
                self._sleepers.on_slept(worker)
            case Woke():
                self._sleepers.on_woke(worker)
            case SleepFailed(reason):
                self._sleepers.on_failed(worker, reason)
            case LastTotals(data):
                self.totals.note(child.id, data)
                self.totals.on_end(child.id)

    def on_gone(self, child: BusChild) -> None:
        log.debug("child left the bus: %s %s", child.role, child.id)
        if child.role == FRONTEND and self._bus is not None:
            self.totals.on_end(child.id)
            if self._demand is not None:
                self._demand.forget(child.id)
            self._bus.relay_gone(child, FrontEndGone(child.id))


async def begin_drain(bus: BusServer, worker: WorkerId, drain_s: float, *, idle_s: float) -> None:
    """Ask a child to finish its requests; see `Stop`. Raises `NotRunning` when it is not on the bus."""
    for child in bus.children():
        if child.id == worker:
            bus.push(child, Stop(drain_s, min(idle_s, drain_s)))
            await trio.lowlevel.checkpoint()
            return
    raise NotRunning(f"{worker} is not connected")


async def push_pictures(bus: BusServer, board: Board, supervisor: Supervisor) -> None:
    """Tell front ends of every change, for ever. Changes that come together go out as one picture."""
    while True:
        seen = supervisor.version
        bus.broadcast(FRONTEND, board.picture())
        # No deadline: there is nothing to tell until something changes.
        await supervisor.wait_changed(seen)

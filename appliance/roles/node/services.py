"""The services of a node in nested nurseries: who is wired to whom, what starts when, how they stop."""

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio

from appliance.core.config import environment
from appliance.core.identity import WorkerId
from appliance.core.records import KeyRecord
from appliance.core.settings import Settings
from appliance.roles.node.adapter_store import AdapterStore
from appliance.roles.node.adapters import NodeAdapters
from appliance.roles.node.admin import NodeAdmin
from appliance.roles.node.announcer import Announcer
from appliance.roles.node.backups import Backups
from appliance.roles.node.board import Board
from appliance.roles.node.children import Launcher
from appliance.roles.node.console import NodeConsole
from appliance.roles.node.desired import DesiredState
from appliance.roles.node.hardware import NodeHardware
from appliance.roles.node.key_ring import KeyRing
from appliance.roles.node.ledger import Ledger
from appliance.roles.node.liveness import watch_liveness
from appliance.roles.node.model_memory import ModelMemory
from appliance.roles.node.own_log import keep_own_lines
from appliance.roles.node.public_sockets import PublicSockets
from appliance.roles.node.public_view import NodeView
from appliance.roles.node.reload import Reloader, plan_change
from appliance.roles.node.reports import FRONTEND, ChildReports, begin_drain, push_pictures
from appliance.roles.node.restarts import Restarts
from appliance.roles.node.service_notices import ServiceNotices
from appliance.roles.node.sleep import Rest, Sleepers, push_to
from appliance.roles.node.tuning import Tuning
from appliance.roles.options import NodeOptions
from appliance.roles.own_executable import own_command
from appliance.roles.signals import watch_stop_signals
from appliance.state.sqlite import SqliteStateStore
from appliance.supervision.guard_client import GuardClient
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.surroundings import Surroundings
from appliance.telemetry.logs import set_log_level
from appliance.transport.bus_server import BusServer

log = structlog.get_logger(__name__)

IDLE_S = 5.0  # kept-alive connections of a front end that leaves: their next answer says that it is the last
LAST_RESORT_S = 15.0  # beyond the sum of the deadlines of an orderly stop, before the process ends itself


class NodeServices:
    """A node from open store and bound port on: services in nested nurseries, stopped in the reverse order."""

    def __init__(
        self, options: NodeOptions, store: SqliteStateStore, sockets: PublicSockets, file_keys: list[KeyRecord]
    ) -> None:
        self._options, self._store, self._sockets = options, store, sockets
        self._settings = options.settings
        self._launcher = Launcher(options.settings, options.paths, sockets)
        self._reports = ChildReports()
        self._bus = BusServer(options.paths.bus_socket, self._reports)
        self._reports.relay_over(self._bus)
        self._ledger = Ledger(store)
        self._hardware = NodeHardware(
            options.settings.hardware,
            self._ledger.note,
            self._launcher.weights_bytes,
            visible=environment().get("CUDA_VISIBLE_DEVICES"),
        )
        self._launcher.place_on(self._hardware.placing)
        self._file_keys = file_keys
        self._stop = trio.Event()
        self._notices = ServiceNotices(environment())

    async def run(self) -> None:
        """Start everything, announce it, and wait for the end."""
        async with GuardClient(own_command("guard"), self._launcher.guard_environment()) as guard:
            self._supervisor = Supervisor(self._surroundings(guard), logs_dir=self._options.paths.logs)
            sleepers = self._make_sleepers()
            self._memory = self._make_memory(sleepers)
            await self._memory.restore()
            admit = self._memory.residency.admit
            desired = DesiredState(self._store, self._supervisor, self._least_front_ends(), self._sockets.want, admit)
            self._board = Board(
                self._settings, desired, self._supervisor, self._hardware.ledger, self._options.paths.state_dir
            )
            self._keys = KeyRing(self._store, self._file_keys, self._board.set_keys)
            self._announcer = Announcer(self._options, self._board, self._supervisor, self._sockets.port, self._notices)
            self._restarts = Restarts(desired, self._board, self._ledger.note)
            self._adapters = self._make_adapters(sleepers)
            await self._adapters.restore()
            self._connect(desired, sleepers)
            with keep_own_lines(self._supervisor.own_log(), self._settings.log):
                await self._run_services(desired)

    def _make_sleepers(self) -> Sleepers:
        return Sleepers(
            push_to(self._bus),
            self._supervisor.on_stalled,
            self._hardware.ledger,
            self._supervisor.reconsider,
            lambda: self._board.settings.drain.request_s,
        )

    def _make_memory(self, sleepers: Sleepers) -> ModelMemory:
        return ModelMemory(
            self._store,
            self._supervisor,
            self._hardware.ledger,
            lambda: self._board.settings.residency,
            self._ledger.note,
            self._launcher.weights_bytes,
            sleepers,
        )

    def _make_adapters(self, sleepers: Sleepers) -> NodeAdapters:
        return NodeAdapters(
            AdapterStore(self._store),
            self._board,
            self._bus,
            self._supervisor,
            lambda worker: sleepers.of(worker) is None,
            self._ledger.note,
        )

    def _connect(self, desired: DesiredState, sleepers: Sleepers) -> None:
        """Have those who report and those who show know of each other, before anything runs."""
        board, adapters, residency = self._board, self._adapters, self._memory.residency
        self._reports.attach(self._supervisor, board)
        self._reports.tell_demand(residency.demand)
        self._reports.tell_sleep(sleepers)
        board.as_front_ends_see = lambda views: adapters.as_front_ends_see(sleepers.as_front_ends_see(views))
        board.shown = lambda view: sleepers.shown(view) or adapters.shown(view)
        board.adapters_are_brought = adapters.are_brought
        board.residence, board.knows_what_to_load = residency.notes, residency.has_decided
        desired.is_asleep = lambda worker: sleepers.of(worker) is Rest.ASLEEP

    async def _run_services(self, desired: DesiredState) -> None:
        async with trio.open_nursery() as services:
            services.start_soon(self._notices.run_watchdog)
            services.start_soon(self._ledger.run)
            await services.start(self._bus.run)
            await services.start(self._supervisor.run)
            services.start_soon(self._hardware.run, self._supervisor)
            services.start_soon(push_pictures, self._bus, self._board, self._supervisor)
            services.start_soon(self._adapters.run)
            services.start_soon(self._follow_front_ends)
            services.start_soon(watch_liveness, self._bus, self._supervisor, lambda: self._board.settings.supervision)
            await services.start(self._keys.run)
            await services.start(desired.run)
            services.start_soon(self._memory.run, desired)
            await self._serve()
            services.cancel_scope.cancel()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_stop_signals, self._stop.set, partial(nursery.start_soon, self._stop_now))
            if self._options.reload is not None:
                await nursery.start(self._run_reloads, self._options.reload)
            nursery.start_soon(self._announcer.run)
            await nursery.start(self._run_control)
            await self._stop.wait()  # no deadline: an appliance runs until it is told to stop
            await self._shut_down()
            nursery.cancel_scope.cancel()

    async def _run_control(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve the control and admin apps. Their import takes as long as a worker's start, so it runs beside it."""
        serve_control = await trio.to_thread.run_sync(_import_control)
        backups = Backups(self._options.paths.state_dir, self._ledger.note)
        tuning = Tuning(self._board, self._store, self._launcher.use)
        await tuning.restore()
        admin = NodeAdmin(
            self._store,
            self._board,
            self._supervisor,
            self._bus,
            self._reports.totals,
            self._sockets.port,
            self._stop.set,
            backups,
            self._restarts,
            tuning,
            self._memory,
            self._adapters,
        )
        async with trio.open_nursery() as nursery:
            view = NodeView(self._board, self._bus, self._reports.totals, tuning)
            console = NodeConsole(admin, self._board, self._supervisor, self._bus, self._ledger)
            nursery.start_soon(console.run)
            await nursery.start(serve_control, view, admin, console, self._options.paths, self._settings)
            self._board.set_serving()
            task_status.started()

    async def _shut_down(self) -> None:
        drain = self._settings.drain
        arm_last_resort(drain.request_s + 2 * drain.term_s + LAST_RESORT_S)
        self._announcer.say_stopping(drain.request_s)
        log.info("stopping", drain_s=drain.request_s)
        self._board.set_draining()
        await self._supervisor.shut_down(drain.request_s, drain.term_s)

    async def _stop_now(self) -> None:
        await self._supervisor.shut_down(0, 1)

    async def _run_reloads(self, load: Callable[[], Settings], *, task_status: trio.TaskStatus[None]) -> None:
        reloader = Reloader(load, lambda: self._board.settings, self._take_up, self._ledger.note)
        await reloader.run(
            self._announcer.begin_reload, self._announcer.end_reload, on_hang_up=self._stop.set, task_status=task_status
        )

    def _take_up(self, settings: Settings, file_keys: list[KeyRecord]) -> None:
        """Use settings that may change while we run, and the keys that the key file holds now."""
        replaces_front_ends = plan_change(self._board.settings, settings).replaces_front_ends
        set_log_level(settings.log.level)
        self._launcher.use(settings)
        self._keys.use_file(file_keys)
        self._board.set_settings(settings)
        if replaces_front_ends:
            self._restarts.restart(FRONTEND, None, "settings changed that they read when they start")

    async def _follow_front_ends(self) -> None:
        """Keep new connections with the front ends that serve, for ever."""
        while True:
            seen = self._supervisor.version
            views = self._board.front_ends()
            ready = {view.instance.index for view in views if view.phase == "ready"}
            self._sockets.follow({view.instance.index for view in views}, ready)
            # No deadline: there is nothing to do until something changes.
            await self._supervisor.wait_changed(seen)

    async def _begin_drain(self, worker: WorkerId, drain_s: float) -> None:
        """While others go on, clients of one that leaves get time to hear that their connections end."""
        await begin_drain(self._bus, worker, drain_s, idle_s=0.0 if self._board.draining else IDLE_S)

    def _least_front_ends(self) -> int:
        """The setting is in the graph that was made for given models, where `scale` can change it; else it holds."""
        return 1 if self._options.models else self._settings.http.frontend_processes

    def _surroundings(self, guard: GuardClient) -> Surroundings:
        return Surroundings(
            launch=self._launcher,
            begin_drain=self._begin_drain,
            ledger=self._ledger.note,
            settings=self._settings.supervision,
            drain=self._settings.drain,
            start_deadline_s=self._launcher.start_deadline_s,
            may_surge=self._hardware.placing.has_room,
            gpus=self._hardware.placing,
            guard=guard,
        )


def arm_last_resort(after_s: float) -> None:
    """End this process hard when the orderly stop hangs; the guard then kills every worker."""
    timer = threading.Timer(after_s, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _import_control() -> Any:
    from appliance.roles.node.control import serve_control

    return serve_control

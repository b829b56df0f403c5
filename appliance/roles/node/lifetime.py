"""The life of one node: what is opened in which order, how it becomes ready, how it stops."""

import os
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog
import trio

from appliance.core.config import environment
from appliance.core.errors import EngineFailed, StateUnavailable
from appliance.core.identity import WorkerId
from appliance.core.paths import Paths
from appliance.core.records import KeyRecord
from appliance.core.settings import Settings
from appliance.frontend.protocols.request_template import read_request_template
from appliance.models.demo import DEMO_NAME
from appliance.roles.node.adapter_store import AdapterStore
from appliance.roles.node.adapters import NodeAdapters
from appliance.roles.node.admin import NodeAdmin
from appliance.roles.node.backups import Backups
from appliance.roles.node.board import Board
from appliance.roles.node.children import Launcher
from appliance.roles.node.console import NodeConsole
from appliance.roles.node.desired import DesiredState
from appliance.roles.node.first_graph import write_first_graph
from appliance.roles.node.hardware import NodeHardware
from appliance.roles.node.keys import KIND as KEY_KIND
from appliance.roles.node.keys import KeyStore, read_key_file
from appliance.roles.node.ledger import Ledger
from appliance.roles.node.liveness import watch_liveness
from appliance.roles.node.model_memory import ModelMemory
from appliance.roles.node.own_log import keep_own_lines
from appliance.roles.node.public_sockets import PublicSockets
from appliance.roles.node.public_view import NodeView
from appliance.roles.node.readiness import announce, ready_line
from appliance.roles.node.reload import Reloader, plan_change
from appliance.roles.node.reports import FRONTEND, ChildReports, begin_drain, push_pictures
from appliance.roles.node.restarts import Restarts
from appliance.roles.node.service_notices import ServiceNotices
from appliance.roles.node.sleep import Rest, Sleepers, push_to
from appliance.roles.node.tuning import Tuning
from appliance.roles.options import NodeOptions
from appliance.roles.own_executable import own_command
from appliance.roles.signals import watch_stop_signals
from appliance.state.archive import remove_leftovers
from appliance.state.lock import hold_lock
from appliance.state.sqlite import SqliteStateStore, open_store
from appliance.supervision.guard_client import GuardClient
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.surroundings import Surroundings
from appliance.telemetry.logs import set_log_level
from appliance.transport.bus_server import BusServer
from appliance.web.guards import check_bind
from appliance.web.tls import server_context

log = structlog.get_logger(__name__)

IDLE_S = 5.0  # kept-alive connections of a front end that leaves: their next answer says that it is the last
LAST_RESORT_S = 15.0  # beyond the sum of the deadlines of an orderly stop, before the process ends itself


class Node:
    """One appliance on one box."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self._settings = options.settings

    async def run(self) -> None:
        """Serve until a stop signal. Raises `ApplianceError` when the start is not possible."""
        paths = self._options.paths
        make_folders(paths)
        file_keys = read_key_file(self._settings.http.api_key_file)
        check_files_of_front_ends(self._settings)
        async with AsyncExitStack() as stack:
            stack.enter_context(hold_lock(paths.lock))
            remove_leftovers(paths.state_dir)
            store = await stack.enter_async_context(open_store(paths.database))
            stored_keys = await KeyStore(store).records()
            check_bind(self._settings.http, has_keys=bool(file_keys or stored_keys))
            sockets = PublicSockets(self._settings.http.host, self._settings.http.port)
            stack.callback(sockets.close)
            if await write_first_graph(store, self._options):
                log.info("the store is empty: serving the built-in demo model", model=DEMO_NAME)
            await _Running(self._options, store, sockets, file_keys).run()


class _Running:
    """The node from open store and bound port on: services in nested nurseries, stopped in the reverse order."""

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
            sleepers = Sleepers(
                push_to(self._bus),
                self._supervisor.on_stalled,
                self._hardware.ledger,
                self._supervisor.reconsider,
                lambda: self._board.settings.drain.request_s,
            )
            self._memory = ModelMemory(
                self._store,
                self._supervisor,
                self._hardware.ledger,
                lambda: self._board.settings.residency,
                self._ledger.note,
                self._launcher.weights_bytes,
                sleepers,
            )
            await self._memory.restore()
            residency = self._memory.residency
            desired = DesiredState(
                self._store, self._supervisor, self._least_front_ends(), self._sockets.want, residency.admit
            )
            self._board = Board(
                self._settings, desired, self._supervisor, self._hardware.ledger, self._options.paths.state_dir
            )
            self._reports.attach(self._supervisor, self._board)
            self._reports.tell_demand(residency.demand)
            self._reports.tell_sleep(sleepers)
            self._adapters = NodeAdapters(
                AdapterStore(self._store),
                self._board,
                self._bus,
                self._supervisor,
                lambda worker: sleepers.of(worker) is None,
                self._ledger.note,
            )
            await self._adapters.restore()
            self._board.as_front_ends_see = lambda views: self._adapters.as_front_ends_see(
                sleepers.as_front_ends_see(views)
            )
            self._board.shown = lambda view: sleepers.shown(view) or self._adapters.shown(view)
            self._board.adapters_are_brought = self._adapters.are_brought
            desired.is_asleep = lambda worker: sleepers.of(worker) is Rest.ASLEEP
            self._board.residence, self._board.knows_what_to_load = residency.notes, residency.has_decided
            self._restarts = Restarts(desired, self._board, self._ledger.note)
            with keep_own_lines(self._supervisor.own_log(), self._settings.log):
                await self._run_services(desired)

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
            await services.start(self._follow_keys)
            await services.start(desired.run)
            services.start_soon(self._memory.run, desired)
            await self._serve()
            services.cancel_scope.cancel()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_stop_signals, self._stop.set, partial(nursery.start_soon, self._stop_now))
            if self._options.reload is not None:
                await nursery.start(self._run_reloads, self._options.reload)
            nursery.start_soon(self._announce_when_ready)
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

    async def _announce_when_ready(self) -> None:
        while not self._board.is_ready():
            self._give_up_if_hopeless()
            self._notices.status(f"starting: {self._summary()}")
            # No deadline: supervision has one for each worker, after which it is failed or starts again.
            await self._supervisor.wait_changed(self._supervisor.version)
        self._board.was_ready = True
        line = ready_line(self._settings.http, self._sockets.port, self._board.models(), self._board.started_at)
        announce(line, self._options.ready_fd)
        self._notices.ready(self._summary())
        await self._follow_summary()

    async def _follow_summary(self) -> None:
        """Keep the line of `systemctl status` true, for ever."""
        told = self._summary()
        while True:
            # No deadline: there is nothing to tell until something changes.
            await self._supervisor.wait_changed(self._supervisor.version)
            if (line := self._summary()) != told:
                self._notices.status(told := line)

    def _summary(self) -> str:
        models = [f"{model.name} {model.phase}" for model in self._board.models()]
        return f"port {self._sockets.port}; {', '.join(models) or 'no model'}"

    def _give_up_if_hopeless(self) -> None:
        """Models that were asked for on the command line and cannot be served at all end the start."""
        failed = self._board.failures()
        if self._options.models and failed and len(failed) == len(self._board.workers()):
            raise EngineFailed(f"cannot serve {failed[0].instance.component}: {failed[0].reason}")

    async def _shut_down(self) -> None:
        drain = self._settings.drain
        arm_last_resort(drain.request_s + 2 * drain.term_s + LAST_RESORT_S)
        self._notices.stopping(f"finishing requests, up to {drain.request_s:g} s")
        log.info("stopping", drain_s=drain.request_s)
        self._board.set_draining()
        await self._supervisor.shut_down(drain.request_s, drain.term_s)

    async def _stop_now(self) -> None:
        await self._supervisor.shut_down(0, 1)

    async def _run_reloads(self, load: Callable[[], Settings], *, task_status: trio.TaskStatus[None]) -> None:
        reloader = Reloader(load, lambda: self._board.settings, self._take_up, self._ledger.note)
        await reloader.run(self._begin_reload, self._end_reload, on_hang_up=self._stop.set, task_status=task_status)

    def _begin_reload(self) -> None:
        if self._board.was_ready:
            self._notices.reloading()

    def _end_reload(self) -> None:
        if self._board.was_ready:
            self._notices.ready(self._summary())

    def _take_up(self, settings: Settings, file_keys: list[KeyRecord]) -> None:
        """Use settings that may change while we run, and the keys that the key file holds now."""
        replaces_front_ends = plan_change(self._board.settings, settings).replaces_front_ends
        stored = [key for key in self._board.keys if key not in self._file_keys]
        self._file_keys = file_keys
        set_log_level(settings.log.level)
        self._launcher.use(settings)
        self._board.set_keys([*file_keys, *stored])
        self._board.set_settings(settings)
        if replaces_front_ends:
            self._restarts.restart(FRONTEND, None, "settings changed that they read when they start")

    async def _follow_keys(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the board's keys as the store has them."""
        keys = KeyStore(self._store)
        while True:  # a watch that fell behind is closed; the next one starts with the whole picture
            async with self._store.watch(KEY_KIND) as changes:
                self._board.set_keys([*self._file_keys, *await keys.records()])
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                async for _ in changes:
                    self._board.set_keys([*self._file_keys, *await keys.records()])

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


def check_files_of_front_ends(settings: Settings) -> None:
    """Read what only front ends use: with a bad file they would fail over and over. Raises `UsageError`."""
    if settings.requests.template_file is not None:
        read_request_template(settings.requests.template_file)
    server_context(settings.http.tls_cert_path, settings.http.tls_key_path)


def make_folders(paths: Paths) -> None:
    """Create state and run dir, readable by the owner only. Raises `StateUnavailable`."""
    for folder in (paths.state_dir, paths.run_dir, paths.logs):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateUnavailable(f"cannot create {folder}: {error.strerror}") from None


def arm_last_resort(after_s: float) -> None:
    """End this process hard when the orderly stop hangs; the guard then kills every worker."""
    timer = threading.Timer(after_s, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _import_control() -> Any:
    from appliance.roles.node.control import serve_control

    return serve_control

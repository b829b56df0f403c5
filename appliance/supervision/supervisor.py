"""The supervisor: holds the wanted instances, runs one worker task for each, and reconciles after every change."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from appliance.core.errors import InternalError, NotFound
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.requests import ModelCard
from appliance.supervision.changes import Changes
from appliance.supervision.log_file import LogFile
from appliance.supervision.log_ring import LogRing
from appliance.supervision.process import KILL_S
from appliance.supervision.reconcile import Drain, Effect, Present, Start, plan
from appliance.supervision.surroundings import Surroundings
from appliance.supervision.views import WorkerView
from appliance.supervision.worker import WorkerTask

SETTLE_S = 1.0  # the tasks' own deadlines end first, so that they can say what became of their processes
KEPT_LOGS = 32  # rings of instances that are no longer wanted; half a MiB each at most
_OWN = ComponentInstance(graph="appliance", component="supervisor", index=0, type="supervisor", argv=(), spec_hash="")
OWN_LOG = _OWN.key
"""Key of the log of the supervisor itself."""
LogWatcher = Callable[[ComponentInstance, LogRing], None]


class Supervisor:
    """What a node role uses to run its components as processes.

    All methods but `run`, `wait_changed` and `shut_down` return at once. Everything is called in one trio thread.
    """

    def __init__(self, surroundings: Surroundings, *, logs_dir: Path | None = None) -> None:
        """`logs_dir`: where output is also written, as `COMPONENT.log`; None: memory only."""
        self._world = surroundings
        self._logs_dir = logs_dir
        self._wanted: tuple[ComponentInstance, ...] = ()
        self._tasks: dict[int, WorkerTask] = {}
        self._numbers = itertools.count(1)
        self._logs: dict[str, LogRing] = {}
        self._files: dict[str, LogFile] = {}
        self._log_watchers: set[LogWatcher] = set()
        self._changes = Changes()
        self._closing = False
        self._scope: trio.CancelScope | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the wanted instances until `shut_down` is through. Cancelling kills every process group."""
        if self._scope is not None:
            raise InternalError("cannot run a supervisor twice")
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                task_status.started()
                while not (self._closing and not self._tasks):
                    seen = self._changes.version
                    self._reconcile(nursery)
                    # No deadline: there is nothing to do until something changes.
                    await self._changes.wait(seen)
        finally:
            for file in self._files.values():
                file.close()

    def set_wanted(self, instances: Iterable[ComponentInstance]) -> None:
        """Replace what shall run. Ignored once `shut_down` was called."""
        if not self._closing:
            self._wanted = tuple(instances)
            self._changes.bump()

    # What the processes report; false for an id that no running process has

    def on_ready(self, worker: WorkerId, card: ModelCard | None) -> bool:
        """A process serves."""
        return any(task.on_ready(worker, card) for task in self._tasks.values())

    def on_progress(self, worker: WorkerId, fraction: float, text: str) -> bool:
        """A process is still loading."""
        return any(task.on_progress(worker, fraction, text) for task in self._tasks.values())

    def on_start_failed(self, worker: WorkerId, code: str, reason: str, final: bool) -> bool:
        """A process cannot serve and is about to end."""
        return any(task.on_start_failed(worker, code, reason, final) for task in self._tasks.values())

    def on_stalled(self, worker: WorkerId, reason: str) -> bool:
        """A process lives but does not do its work: it is replaced."""
        return any(task.on_stalled(worker, reason) for task in self._tasks.values())

    def on_gpu_lost(self, worker: WorkerId, reason: str) -> bool:
        """The GPU of a process is gone."""
        return any(task.on_gpu_lost(worker, reason) for task in self._tasks.values())

    def restart(self, worker: WorkerId, reason: str) -> bool:
        """Replace a worker: it finishes its requests while, with room for both, its successor starts."""
        for task in self._tasks.values():
            if task.view().id == worker and not task.leaving:
                task.want_stop(reason)
                self._changes.bump()
                return True
        return False

    def reconsider(self) -> None:
        """What there is of GPUs has changed: workers that wait for some look again."""
        for task in self._tasks.values():
            task.reconsider()
        self._changes.bump()

    # What others look at

    @property
    def version(self) -> int:
        """Count of changes so far, for `wait_changed`."""
        return self._changes.version

    def note_change(self) -> None:
        """Count a change that others made and that waiters here want to see too."""
        self._changes.bump()

    async def wait_changed(self, version: int) -> int:
        """Return the count of changes as soon as it differs from `version`."""
        return await self._changes.wait(version)

    def views(self) -> list[WorkerView]:
        """All workers that exist, by key; of one key the older one first."""
        ordered = sorted(self._tasks.items(), key=lambda item: (_place(item[1].instance), item[0]))
        return [task.view() for _, task in ordered]

    async def ensure_ready(self, key: str) -> ModelCard | None:
        """Wait for the newest worker of a key to serve; the caller sets the deadline.

        Raises NotFound for a key that nothing runs under, ModelNotReady when that worker has failed or stops.
        """
        found = [task for task in self._tasks.values() if task.instance.key == key]
        if not found:
            raise NotFound(f"no worker of {key}")
        return await found[-1].ensure_ready()

    def logs(self, key: str) -> LogRing:
        """The log of an instance, also of one that is gone. Raises NotFound."""
        try:
            return self._logs[key]
        except KeyError:
            raise NotFound(f"no logs of {key}") from None

    def own_log(self) -> LogRing:
        """A ring for the lines of the supervisor's own process, under the key `OWN_LOG`."""
        return self._log_of(_OWN)

    @contextmanager
    def watch_logs(self, watcher: LogWatcher) -> Iterator[None]:
        """Within the block, tell of every instance that gets a log, before its first line."""
        self._log_watchers.add(watcher)
        try:
            yield
        finally:
            self._log_watchers.discard(watcher)

    def log_keys(self) -> list[str]:
        """The keys that logs are kept of."""
        return list(self._logs)

    # The end

    async def shut_down(self, drain_s: float, term_s: float) -> None:
        """Stop everything: front ends first, since their requests need the workers; then the rest.

        Ends after at most `drain_s` plus two times `term_s` and what the kernel needs to kill. Called again meanwhile,
        the earlier deadline wins. Cancelling leaves the rest to the cancellation of `run`.
        """
        self._closing = True
        self._changes.bump()
        until = trio.current_time() + drain_s
        await self._stop_all(self._front_ends, until, term_s)
        await self._stop_all(lambda: list(self._tasks.values()), until, term_s)
        if self._tasks and self._scope is not None:
            self._scope.cancel()

    async def _stop_all(self, tasks: Callable[[], Sequence[WorkerTask]], until: float, term_s: float) -> None:
        left_s = max(0.0, until - trio.current_time())
        for task in tasks():
            task.want_stop("the appliance stops", drain_s=left_s, term_s=term_s)
        with trio.move_on_after(left_s + term_s + KILL_S + SETTLE_S):
            while tasks():
                await self._changes.wait(self._changes.version)

    def _front_ends(self) -> list[WorkerTask]:
        return [task for task in self._tasks.values() if task.instance.type == "frontend"]

    # Reconcile

    def _reconcile(self, nursery: trio.Nursery) -> None:
        if self._closing:
            return
        present = [
            Present(number=number, instance=task.instance, phase=task.phase, leaving=task.leaving)
            for number, task in self._tasks.items()
        ]
        for effect in plan(self._wanted, present, may_surge=self._world.may_surge):
            self._apply(effect, nursery)

    def _apply(self, effect: Effect, nursery: trio.Nursery) -> None:
        match effect:
            case Start(instance):
                number = next(self._numbers)
                log = self._log_of(instance)
                self._tasks[number] = WorkerTask(instance, self._world, log, self._changes.bump)
                nursery.start_soon(self._run_task, number)
                self._changes.bump()
            case Drain(number, reason):
                self._tasks[number].want_stop(reason)

    async def _run_task(self, number: int) -> None:
        try:
            await self._tasks[number].run()
        finally:
            del self._tasks[number]
            self._changes.bump()

    def _log_of(self, instance: ComponentInstance) -> LogRing:
        if instance.key not in self._logs:
            self._forget_old_logs()
            ring = self._logs[instance.key] = LogRing(self._file_of(instance), clock=self._world.clock)
            for watcher in self._log_watchers:
                watcher(instance, ring)
        return self._logs[instance.key]

    def _file_of(self, instance: ComponentInstance) -> LogFile | None:
        if self._logs_dir is None:
            return None
        name = f"{instance.component}.log"
        if name not in self._files:
            self._files[name] = LogFile(self._logs_dir / name)
        return self._files[name]

    def _forget_old_logs(self) -> None:
        live = {instance.key for instance in self._wanted} | {task.instance.key for task in self._tasks.values()}
        live.add(OWN_LOG)
        old = [key for key in self._logs if key not in live]
        for key in old[: max(0, len(old) - KEPT_LOGS + 1)]:
            del self._logs[key]


def _place(instance: ComponentInstance) -> tuple[str, str, int]:
    return instance.graph, instance.component, instance.index

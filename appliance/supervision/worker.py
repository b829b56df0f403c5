"""The life of one worker over all its incarnations: start, ready, crash, back off, drain, stop.

One task writes its state.
Others report facts (`on_ready`, `want_stop`, ...) and are told of every change; only `run` decides and moves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import trio

from appliance.core.errors import ApplianceError, InternalError, ModelNotReady, UsageError
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.core.requests import ModelCard
from appliance.supervision.backoff import Backoff, GiveUp
from appliance.supervision.changes import Changes
from appliance.supervision.exits import TAIL_LINES, ExitReason, explain_exit
from appliance.supervision.gpu_places import NoRoom
from appliance.supervision.incarnation import Ending, Incarnation, new_worker_id
from appliance.supervision.log_ring import LogRing
from appliance.supervision.process import KILL_S, PIPE_GRACE_S
from appliance.supervision.states import MOVES, Phase
from appliance.supervision.surroundings import Surroundings
from appliance.supervision.views import LoadProgress, WorkerView

TELL_S = 2.0  # a message on the local bus takes no longer


def _never() -> float:
    return math.inf


@dataclass(frozen=True)
class StopWish:
    """Why the worker shall stop, and by when (trio time) its requests must be done."""

    reason: str
    drain_until: float
    term_s: float


class WorkerTask:
    """One worker of one spec. A changed spec is another `WorkerTask`; this one is then asked to stop."""

    def __init__(
        self, instance: ComponentInstance, surroundings: Surroundings, log: LogRing, on_change: Callable[[], None]
    ) -> None:
        self.instance = instance
        self._world = surroundings
        self._log = log
        self._on_change = on_change
        self._news = Changes()
        self._backoff = Backoff(surroundings.settings, surroundings.random.random)
        self._phase = Phase.STARTING
        self._since = surroundings.clock()
        self._reason = "wanted by its graph"
        self._life: Incarnation | None = None
        self._last_id = new_worker_id(instance, surroundings.random, unlike=None)
        self._starts = 0
        self._stop: StopWish | None = None

    # What others see and say

    @property
    def phase(self) -> Phase:
        """What the worker is doing now."""
        return self._phase

    @property
    def leaving(self) -> bool:
        """True from the moment that a stop was asked for."""
        return self._stop is not None

    def view(self) -> WorkerView:
        """A snapshot for others."""
        life = self._life
        return WorkerView(
            id=self._last_id,
            instance=self.instance,
            phase=self._phase.value,
            since=self._since,
            pid=life.child.pid if life else None,
            address=life.address if life else "",
            restarts=max(0, self._starts - 1),
            reason=self._reason,
            progress=life.progress if life else None,
            card=life.card if life else None,
        )

    def on_ready(self, worker: WorkerId, card: ModelCard | None) -> bool:
        """The process says that it serves. False for a process that is not (or no longer) this worker's."""
        if (life := self._current(worker)) is None:
            return False
        life.is_ready, life.card = True, card
        self._tell()
        return True

    def on_progress(self, worker: WorkerId, fraction: float, text: str) -> bool:
        """The process is still loading."""
        if (life := self._current(worker)) is None:
            return False
        progress = LoadProgress(fraction=fraction, text=text)
        if progress != life.progress:
            life.progress, life.moved_at = progress, trio.current_time()
        self._tell()
        return True

    def on_start_failed(self, worker: WorkerId, code: str, reason: str, final: bool) -> bool:
        """The process says that it cannot serve, and ends."""
        if (life := self._current(worker)) is None:
            return False
        life.said = ExitReason(code, reason, final)
        self._tell()
        return True

    def on_stalled(self, worker: WorkerId, reason: str) -> bool:
        """The process lives and serves nobody: it is killed, and another one started."""
        if (life := self._current(worker)) is None or self._phase is not Phase.READY:
            return False
        life.blamed = life.blamed or ExitReason("stalled", reason)
        self._tell()
        return True

    def on_gpu_lost(self, worker: WorkerId, reason: str) -> bool:
        """The process computes on a GPU that is gone: whatever it does now, it is killed."""
        if (life := self._current(worker)) is None:
            return False
        life.blamed = life.blamed or ExitReason("gpu_lost", reason)
        self._tell()
        return True

    def reconsider(self) -> None:
        """There may be GPUs now for a worker that waits for them."""
        self._news.bump()

    def want_stop(self, reason: str, *, drain_s: float | None = None, term_s: float | None = None) -> None:
        """Ask the worker to drain and stop; `run` then returns. Asked again, the earlier deadlines win."""
        drain = self._world.drain
        until = trio.current_time() + (drain.request_s if drain_s is None else drain_s)
        term_s = drain.term_s if term_s is None else term_s
        if self._stop is None:
            self._stop = StopWish(reason, until, term_s)
        else:
            earlier = min(self._stop.drain_until, until)
            self._stop = replace(self._stop, drain_until=earlier, term_s=min(self._stop.term_s, term_s))
        self._tell()

    async def ensure_ready(self) -> ModelCard | None:
        """Wait until the worker serves, over restarts; its card. The caller sets the deadline.

        Raises ModelNotReady when the worker has failed or stops.
        """
        while self._phase is not Phase.READY:
            if self._stop is not None or self._phase in (Phase.FAILED, Phase.STOPPED):
                raise ModelNotReady(f"{self.instance.key} is not ready: {self._reason}")
            await self._news.wait(self._news.version)
        return self._life.card if self._life else None

    # The task

    async def run(self) -> None:
        """Keep the worker alive until a stop is asked for and done. Cancelled, it kills the process group first."""
        while self._stop is None:
            ending = await self._live_once()
            if ending is not None and self._stop is None:
                await self._pause(ending)
        self._move(Phase.STOPPED, self._stop.reason)

    async def _live_once(self) -> Ending | None:
        """One process from start to reaped; None when its end was asked for."""
        if self._phase is Phase.BACKOFF:
            self._move(Phase.STARTING, f"started again after: {self._reason}")
        worker = new_worker_id(self.instance, self._world.random, unlike=self._last_id)
        try:
            if not await self._claim_gpus(worker):
                return None
            life = self._start(worker)
        except ApplianceError as error:
            self._world.gpus.release(worker)
            self._log.note(self._last_id, error.message)
            self._move(Phase.BACKOFF, error.message)
            return Ending(ExitReason(error.code, error.message, isinstance(error, UsageError)), None)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._collect, life)
                await self._attend(life)
        finally:
            await self._bury(life)
        if self._stop is not None:
            return None
        return Ending(self._explain(life), life.ready_s)

    async def _claim_gpus(self, worker: WorkerId) -> bool:
        """Wait for its turn to load; False when a stop was asked for meanwhile. Raises NoRoom."""
        while self._stop is None:
            waits_for = self._world.gpus.claim(self.instance, worker)
            if not waits_for:
                return True
            if waits_for != self._reason:
                self._reason = waits_for
                self._tell()
            # No deadline: the look at the GPUs has one, and so has the start of the worker that loads there now.
            await self._news.wait(self._news.version)
        return False

    def _start(self, worker: WorkerId) -> Incarnation:
        self._last_id = worker
        self._starts += 1
        self._log.begin(worker)
        plan = self._world.launch(self.instance, worker)
        mark = self._world.guard.mark()
        before = self._world.oom_kills()
        child = self._world.spawn(replace(plan, env={**plan.env, **mark}))
        self._world.guard.record(child.pid, mark)
        self._life = Incarnation(worker, child, plan.address, before)
        self._record("start", self._reason, pid=child.pid, spec_hash=self.instance.spec_hash)
        self._tell()
        return self._life

    async def _collect(self, life: Incarnation) -> None:
        """Read the output and wait for the exit; then the output gets a grace, as others may hold the pipe."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.child.read_output, lambda data: self._log.feed(life.id, data))
            self._note_exit(life, await life.child.wait())
            nursery.cancel_scope.deadline = trio.current_time() + PIPE_GRACE_S

    def _note_exit(self, life: Incarnation, returncode: int) -> None:
        life.returncode = returncode
        life.ended_at = trio.current_time()
        self._world.guard.forget(life.child.pid)
        self._tell()

    async def _attend(self, life: Incarnation) -> None:
        """Follow the process until it has ended, and make it end when it should."""
        started_at = trio.current_time()
        started = await self._until(
            lambda: (
                life.is_ready or life.said is not None or life.blamed is not None or life.has_ended() or self.leaving
            ),
            # Looked at anew: a worker that fetches its model moves for hours, and only then is its size known.
            lambda: max(started_at, life.moved_at) + self._world.start_limit_s(self.instance),
        )
        if not started:
            limit_s = self._world.start_limit_s(self.instance)
            since = f" after it last said: {life.progress.text}" if life.progress else ""
            life.blamed = ExitReason("start_deadline", f"it was not ready within {limit_s:g} s{since}")
            await self._kill(life)
        elif life.blamed is not None and not life.has_ended():
            await self._kill(life)
        elif life.is_ready and not life.has_ended():
            await self._serve(life)
        elif self._stop is not None:
            await self._terminate(life, self._stop.reason)
        elif not await self._until(life.has_ended, self._after(self._world.drain.term_s)):
            await self._kill(life)  # it told us of its failure, and then it did not end
        if self._phase in (Phase.STARTING, Phase.READY):
            # At once, before the reason is known: nobody shall be sent to a process that is gone.
            self._move(Phase.BACKOFF, "its process ended")

    async def _serve(self, life: Incarnation) -> None:
        life.ready_at = trio.current_time()
        life.progress = None
        self._move(Phase.READY, "it serves")
        self._record("ready", self._reason, pid=life.child.pid)
        self._world.gpus.loaded(life.id)
        # No deadline: a worker serves for as long as it is wanted.
        await self._until(lambda: life.has_ended() or self.leaving or life.blamed is not None)
        if life.has_ended():
            return
        if self._stop is not None:
            await self._drain(life, self._stop)
        else:
            await self._kill(life)

    async def _drain(self, life: Incarnation, wish: StopWish) -> None:
        """Let the process finish its requests until the deadline, then end it."""
        drain_s = wish.drain_until - trio.current_time()
        if drain_s > 0:
            self._move(Phase.DRAINING, wish.reason)
            self._record("drain", wish.reason, drain_s=round(drain_s, 3))
            if await self._begin_drain(life.id, drain_s):
                await self._until(life.has_ended, lambda: self._stop.drain_until if self._stop else 0.0)
        await self._terminate(life, wish.reason)

    async def _begin_drain(self, worker: WorkerId, drain_s: float) -> bool:
        with trio.move_on_after(min(drain_s, TELL_S)):
            try:
                await self._world.begin_drain(worker, drain_s)
            except ApplianceError as error:
                self._log.note(worker, f"cannot be asked to drain: {error.message}")
                return False
            return True
        return False

    async def _terminate(self, life: Incarnation, why: str) -> None:
        """SIGTERM to the process, after a while SIGKILL to its group."""
        if life.has_ended():
            return
        self._move(Phase.STOPPING, why)
        asked_at = trio.current_time()
        life.child.terminate()
        if not await self._until(life.has_ended, lambda: asked_at + (self._stop.term_s if self._stop else 0.0)):
            await self._kill(life)

    async def _kill(self, life: Incarnation) -> None:
        life.child.kill_group()
        if not await self._until(life.has_ended, self._after(KILL_S)):
            self._record("stuck", f"the kernel has not ended it {KILL_S:g} s after SIGKILL", pid=life.child.pid)
            # No deadline: while a driver holds the process it holds its memory too, and to say so is the truth.
            await self._until(life.has_ended)

    async def _bury(self, life: Incarnation) -> None:
        """Whatever happened, no process outlives its task."""
        if not life.has_ended():
            life.child.kill_group()
            with trio.move_on_after(KILL_S, shield=True):  # shield: it must be reaped even when we are cancelled
                self._note_exit(life, await life.child.wait())
        life.child.close()
        self._log.end(life.id)
        self._world.gpus.release(life.id)
        self._life = None

    async def _pause(self, ending: Ending) -> None:
        """After an unasked end: wait before the next start, or give up until the spec changes."""
        why = ending.reason.text
        if ending.reason.code == NoRoom.code:
            await self._wait_for_room(why)
            return
        self._record("crash", why, code=ending.reason.code, ready_s=ending.ready_s)
        verdict = self._backoff.on_exit(now=trio.current_time(), ready_s=ending.ready_s)
        if ending.reason.final:
            verdict = GiveUp("starting it again will not help")
        if isinstance(verdict, GiveUp):
            self._move(Phase.FAILED, why)
            self._record("fail", f"{why}; given up: {verdict.why}")
            await self._until(lambda: self.leaving)  # no deadline: only a changed spec helps
            return
        self._reason = why
        self._record("backoff", verdict.why, wait_s=round(verdict.after_s, 3))
        self._tell()
        await self._until(lambda: self.leaving, self._after(verdict.after_s))

    async def _wait_for_room(self, why: str) -> None:
        """No GPUs for it: failed until there are, as no wait of ours would bring them."""
        self._move(Phase.FAILED, why)
        self._record("refuse", why)
        await self._until(lambda: self.leaving or self._world.gpus.has_room(self.instance))
        if not self.leaving:
            self._move(Phase.STARTING, "there are GPUs for it now")

    # Small parts

    def _explain(self, life: Incarnation) -> ExitReason:
        tail = [line.text for line in self._log.lines(TAIL_LINES, worker=life.id)]
        kills = self._world.oom_kills() - life.oom_kills_before
        return explain_exit(life.returncode or 0, tail, said=life.said or life.blamed, oom_kills=kills)

    def _current(self, worker: WorkerId) -> Incarnation | None:
        return self._life if self._life is not None and self._life.id == worker else None

    def _move(self, to: Phase, why: str) -> None:
        if to not in MOVES[self._phase]:
            raise InternalError(f"cannot move worker {self._last_id} from {self._phase} to {to}")
        self._phase, self._reason, self._since = to, why, self._world.clock()
        if to is Phase.STOPPED:
            self._record("stop", why)
        self._tell()

    def _record(self, action: str, reason: str, **inputs: Any) -> None:
        subject = f"worker/{self._last_id}"
        inputs = {"instance": self.instance.key, **inputs}
        self._world.ledger(
            LedgerEvent(at=self._world.clock(), subject=subject, action=action, reason=reason, inputs=inputs)
        )

    def _tell(self) -> None:
        self._news.bump()
        self._on_change()

    async def _until(self, done: Callable[[], bool], deadline: Callable[[], float] = _never) -> bool:
        """Wait until a fact holds or the deadline (trio time, looked at anew after each change) has passed."""
        while not done() and trio.current_time() < deadline():
            with trio.move_on_at(deadline()):
                await self._news.wait(self._news.version)
        return done()

    @staticmethod
    def _after(seconds: float) -> Callable[[], float]:
        at = trio.current_time() + seconds
        return lambda: at

"""The life of one worker over all its incarnations: start, ready, crash, back off, drain, stop.

One task writes its state.
Others report facts (`on_ready`, `want_stop`, ...) and are told of every change; only `run` decides and moves.
"""

from collections.abc import Callable
from dataclasses import replace

import trio

from appliance.core.errors import ApplianceError, ModelNotReady, UsageError
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.requests import ModelCard
from appliance.supervision.attendance import Attendance
from appliance.supervision.backoff import Backoff, GiveUp
from appliance.supervision.exits import ExitReason
from appliance.supervision.gpu_places import NoRoom
from appliance.supervision.incarnation import Ending, Incarnation, new_worker_id
from appliance.supervision.log_ring import LogRing
from appliance.supervision.states import Phase
from appliance.supervision.surroundings import Surroundings
from appliance.supervision.views import LoadProgress, WorkerView
from appliance.supervision.worker_state import StopWish, WorkerState, in_seconds


class WorkerTask:
    """One worker of one spec. A changed spec is another `WorkerTask`; this one is then asked to stop."""

    def __init__(
        self, instance: ComponentInstance, surroundings: Surroundings, log: LogRing, on_change: Callable[[], None]
    ) -> None:
        self.instance = instance
        self._world = surroundings
        self._log = log
        self._backoff = Backoff(surroundings.settings, surroundings.random.random)
        self._state = WorkerState(instance, surroundings, on_change)
        self._starts = 0

    # What others see and say

    @property
    def phase(self) -> Phase:
        """What the worker is doing now."""
        return self._state.phase

    @property
    def leaving(self) -> bool:
        """True from the moment that a stop was asked for."""
        return self._state.leaving

    def view(self) -> WorkerView:
        """A snapshot for others."""
        state = self._state
        life = state.life
        return WorkerView(
            id=state.id,
            instance=self.instance,
            phase=state.phase.value,
            since=state.since,
            pid=life.child.pid if life else None,
            address=life.address if life else "",
            restarts=max(0, self._starts - 1),
            reason=state.reason,
            progress=life.progress if life else None,
            card=life.card if life else None,
        )

    def on_ready(self, worker: WorkerId, card: ModelCard | None) -> bool:
        """The process says that it serves. False for a process that is not (or no longer) this worker's."""
        if (life := self._current(worker)) is None:
            return False
        life.is_ready, life.card = True, card
        self._state.tell()
        return True

    def on_progress(self, worker: WorkerId, fraction: float, text: str) -> bool:
        """The process is still loading."""
        if (life := self._current(worker)) is None:
            return False
        progress = LoadProgress(fraction=fraction, text=text)
        if progress != life.progress:
            life.progress, life.moved_at = progress, trio.current_time()
        self._state.tell()
        return True

    def on_start_failed(self, worker: WorkerId, code: str, reason: str, final: bool) -> bool:
        """The process says that it cannot serve, and ends."""
        if (life := self._current(worker)) is None:
            return False
        life.said = ExitReason(code, reason, final)
        self._state.tell()
        return True

    def on_stalled(self, worker: WorkerId, reason: str) -> bool:
        """The process lives and serves nobody: it is killed, and another one started."""
        if (life := self._current(worker)) is None or self.phase is not Phase.READY:
            return False
        life.blamed = life.blamed or ExitReason("stalled", reason)
        self._state.tell()
        return True

    def on_gpu_lost(self, worker: WorkerId, reason: str) -> bool:
        """The process computes on a GPU that is gone: whatever it does now, it is killed."""
        if (life := self._current(worker)) is None:
            return False
        life.blamed = life.blamed or ExitReason("gpu_lost", reason)
        self._state.tell()
        return True

    def reconsider(self) -> None:
        """There may be GPUs now for a worker that waits for them."""
        self._state.wake()

    def want_stop(self, reason: str, *, drain_s: float | None = None, term_s: float | None = None) -> None:
        """Ask the worker to drain and stop; `run` then returns. Asked again, the earlier deadlines win."""
        drain = self._world.drain
        until = trio.current_time() + (drain.request_s if drain_s is None else drain_s)
        wish = StopWish(reason, until, drain.term_s if term_s is None else term_s)
        self._state.stop = wish if self._state.stop is None else self._state.stop.hurried_by(wish)
        self._state.tell()

    async def ensure_ready(self) -> ModelCard | None:
        """Wait until the worker serves, over restarts; its card. The caller sets the deadline.

        Raises ModelNotReady when the worker has failed or stops.
        """
        state = self._state
        while state.phase is not Phase.READY:
            if state.leaving or state.phase in (Phase.FAILED, Phase.STOPPED):
                raise ModelNotReady(f"{self.instance.key} is not ready: {state.reason}")
            await state.changed()
        return state.life.card if state.life else None

    # The task

    async def run(self) -> None:
        """Keep the worker alive until a stop is asked for and done. Cancelled, it kills the process group first."""
        while (wish := self._state.stop) is None:
            ending = await self._live_once()
            if ending is not None and not self.leaving:
                await self._pause(ending)
        self._state.move(Phase.STOPPED, wish.reason)

    async def _live_once(self) -> Ending | None:
        """One process from start to reaped; None when its end was asked for."""
        state = self._state
        if state.phase is Phase.BACKOFF:
            state.move(Phase.STARTING, f"started again after: {state.reason}")
        worker = new_worker_id(self.instance, self._world.random, unlike=state.id)
        try:
            if not await self._claim_gpus(worker):
                return None
            life = self._start(worker)
        except ApplianceError as error:
            self._world.gpus.release(worker)
            self._log.note(state.id, error.message)
            state.move(Phase.BACKOFF, error.message)
            return Ending(ExitReason(error.code, error.message, isinstance(error, UsageError)), None)
        attendance = Attendance(self.instance, life, state, self._world, self._log)
        await attendance.run()
        return None if self.leaving else attendance.ending()

    async def _claim_gpus(self, worker: WorkerId) -> bool:
        """Wait for its turn to load; False when a stop was asked for meanwhile. Raises NoRoom."""
        while not self.leaving:
            waits_for = self._world.gpus.claim(self.instance, worker)
            if not waits_for:
                return True
            if waits_for != self._state.reason:
                self._state.explain(waits_for)
            # No deadline: the look at the GPUs has one, and so has the start of the worker that loads there now.
            await self._state.changed()
        return False

    def _start(self, worker: WorkerId) -> Incarnation:
        state = self._state
        state.id = worker
        self._starts += 1
        self._log.begin(worker)
        plan = self._world.launch(self.instance, worker)
        mark = self._world.guard.mark()
        before = self._world.oom_kills()
        child = self._world.spawn(replace(plan, env={**plan.env, **mark}))
        self._world.guard.record(child.pid, mark)
        state.life = Incarnation(worker, child, plan.address, before)
        state.record("start", state.reason, pid=child.pid, spec_hash=self.instance.spec_hash)
        state.tell()
        return state.life

    async def _pause(self, ending: Ending) -> None:
        """After an unasked end: wait before the next start, or give up until the spec changes."""
        state, why = self._state, ending.reason.text
        if ending.reason.code == NoRoom.code:
            await self._wait_for_room(why)
            return
        state.record("crash", why, code=ending.reason.code, ready_s=ending.ready_s)
        verdict = self._backoff.on_exit(now=trio.current_time(), ready_s=ending.ready_s)
        if ending.reason.final:
            verdict = GiveUp("starting it again will not help")
        if isinstance(verdict, GiveUp):
            state.move(Phase.FAILED, why)
            state.record("fail", f"{why}; given up: {verdict.why}")
            await state.until(lambda: state.leaving)  # no deadline: only a changed spec helps
            return
        state.record("backoff", verdict.why, wait_s=round(verdict.after_s, 3))
        state.explain(why)
        await state.until(lambda: state.leaving, in_seconds(verdict.after_s))

    async def _wait_for_room(self, why: str) -> None:
        """No GPUs for it: failed until there are, as no wait of ours would bring them."""
        state = self._state
        state.move(Phase.FAILED, why)
        state.record("refuse", why)
        await state.until(lambda: state.leaving or self._world.gpus.has_room(self.instance))
        if not state.leaving:
            state.move(Phase.STARTING, "there are GPUs for it now")

    def _current(self, worker: WorkerId) -> Incarnation | None:
        life = self._state.life
        return life if life is not None and life.id == worker else None

"""One process of a worker attended from its start until it was reaped, and made to end when it should.

It ends by itself, because its worker shall stop, or because it is at fault: too slow to start, stalled, its GPU lost.
"""

import trio

from appliance.core.errors import ApplianceError
from appliance.core.instances import ComponentInstance
from appliance.supervision.exits import TAIL_LINES, ExitReason, explain_exit
from appliance.supervision.incarnation import Ending, Incarnation
from appliance.supervision.log_ring import LogRing
from appliance.supervision.process import KILL_S, PIPE_GRACE_S
from appliance.supervision.states import Phase
from appliance.supervision.surroundings import Surroundings
from appliance.supervision.worker_state import StopWish, WorkerState, in_seconds

TELL_S = 2.0  # a message on the local bus takes no longer


class Attendance:
    """Moves the worker's state from `starting` on for as long as one process lives."""

    def __init__(
        self, instance: ComponentInstance, life: Incarnation, state: WorkerState, world: Surroundings, log: LogRing
    ) -> None:
        self._instance, self._life, self._state, self._world, self._log = instance, life, state, world, log

    async def run(self) -> None:
        """Return when the process was reaped. Cancelled, it kills the process group first."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._collect)
                await self._follow()
        finally:
            await self._bury()

    def ending(self) -> Ending:
        """How the process ended, once it has."""
        life = self._life
        tail = [line.text for line in self._log.lines(TAIL_LINES, worker=life.id)]
        kills = self._world.oom_kills() - life.oom_kills_before
        reason = explain_exit(life.returncode or 0, tail, said=life.said or life.blamed, oom_kills=kills)
        return Ending(reason, life.ready_s)

    async def _collect(self) -> None:
        """Read the output and wait for the exit; then the output gets a grace, as others may hold the pipe."""
        life = self._life
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.child.read_output, lambda data: self._log.feed(life.id, data))
            self._note_exit(await life.child.wait())
            nursery.cancel_scope.deadline = trio.current_time() + PIPE_GRACE_S

    def _note_exit(self, returncode: int) -> None:
        self._life.returncode = returncode
        self._life.ended_at = trio.current_time()
        self._world.guard.forget(self._life.child.pid)
        self._state.tell()

    async def _follow(self) -> None:
        """What becomes of the process, until it has ended."""
        life, state = self._life, self._state
        if not await self._has_started():
            limit_s = self._world.start_limit_s(self._instance)
            since = f" after it last said: {life.progress.text}" if life.progress else ""
            life.blamed = ExitReason("start_deadline", f"it was not ready within {limit_s:g} s{since}")
            await self._kill()
        elif life.blamed is not None and not life.has_ended():
            await self._kill()
        elif life.is_ready and not life.has_ended():
            await self._serve()
        elif state.stop is not None:
            await self._terminate(state.stop.reason)
        elif not await state.until(life.has_ended, in_seconds(self._world.drain.term_s)):
            await self._kill()  # it told us of its failure, and then it did not end
        if state.phase in (Phase.STARTING, Phase.READY):
            # At once, before the reason is known: nobody shall be sent to a process that is gone.
            state.move(Phase.BACKOFF, "its process ended")

    async def _has_started(self) -> bool:
        """Wait for the end of the start, whatever it is; False when the deadline came first."""
        life, state = self._life, self._state
        started_at = trio.current_time()
        return await state.until(
            lambda: (
                life.is_ready or life.said is not None or life.blamed is not None or life.has_ended() or state.leaving
            ),
            # Looked at anew: a worker that fetches its model moves for hours, and only then is its size known.
            lambda: max(started_at, life.moved_at) + self._world.start_limit_s(self._instance),
        )

    async def _serve(self) -> None:
        life, state = self._life, self._state
        life.ready_at = trio.current_time()
        life.progress = None
        state.move(Phase.READY, "it serves")
        state.record("ready", state.reason, pid=life.child.pid)
        self._world.gpus.loaded(life.id)
        # No deadline: a worker serves for as long as it is wanted.
        await state.until(lambda: life.has_ended() or state.leaving or life.blamed is not None)
        if life.has_ended():
            return
        if state.stop is not None:
            await self._drain(state.stop)
        else:
            await self._kill()

    async def _drain(self, wish: StopWish) -> None:
        """Let the process finish its requests until the deadline, then end it."""
        state = self._state
        drain_s = wish.drain_until - trio.current_time()
        if drain_s > 0:
            state.move(Phase.DRAINING, wish.reason)
            state.record("drain", wish.reason, drain_s=round(drain_s, 3))
            if await self._begin_drain(drain_s):
                await state.until(self._life.has_ended, lambda: state.stop.drain_until if state.stop else 0.0)
        await self._terminate(wish.reason)

    async def _begin_drain(self, drain_s: float) -> bool:
        with trio.move_on_after(min(drain_s, TELL_S)):
            try:
                await self._world.begin_drain(self._life.id, drain_s)
            except ApplianceError as error:
                self._log.note(self._life.id, f"cannot be asked to drain: {error.message}")
                return False
            return True
        return False

    async def _terminate(self, why: str) -> None:
        """SIGTERM to the process, after a while SIGKILL to its group."""
        life, state = self._life, self._state
        if life.has_ended():
            return
        state.move(Phase.STOPPING, why)
        asked_at = trio.current_time()
        life.child.terminate()
        if not await state.until(life.has_ended, lambda: asked_at + (state.stop.term_s if state.stop else 0.0)):
            await self._kill()

    async def _kill(self) -> None:
        life, state = self._life, self._state
        life.child.kill_group()
        if not await state.until(life.has_ended, in_seconds(KILL_S)):
            state.record("stuck", f"the kernel has not ended it {KILL_S:g} s after SIGKILL", pid=life.child.pid)
            # No deadline: while a driver holds the process it holds its memory too, and to say so is the truth.
            await state.until(life.has_ended)

    async def _bury(self) -> None:
        """Whatever happened, no process outlives its task."""
        life = self._life
        if not life.has_ended():
            life.child.kill_group()
            with trio.move_on_after(KILL_S, shield=True):  # shield: it must be reaped even when we are cancelled
                self._note_exit(await life.child.wait())
        life.child.close()
        self._log.end(life.id)
        self._world.gpus.release(life.id)
        self._state.life = None

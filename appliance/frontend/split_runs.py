"""Split requests: a choice's prompt runs on a prefill worker, and what that hands over goes along with its decode half.

The token of a prefill half is dropped: the decode half begins at the same prompt, finds its keys and values there, and
draws every token of the output itself.
"""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import trio

from appliance.core.errors import ApplianceError, InvalidRequest, ModelNotReady, Overloaded, WorkerLost
from appliance.core.identity import ModelName, WorkerId
from appliance.core.ports import WorkerTransport
from appliance.core.requests import EngineRequest, KvTransfer, StopConditions, TokenChunk
from appliance.core.settings import RequestSettings
from appliance.frontend.accounts import Account
from appliance.frontend.routed import Routed
from appliance.routing.router import Placement, Router, RoutingRequest
from appliance.routing.weights import Role

ROOM_BITS = 63
FAULTS = ("error", "cancelled")


class PrefillHalf:
    """One prompt on one prefill worker; a `StreamSink`, so nothing here waits or raises."""

    __slots__ = ("_placement", "_routed", "_stream", "ended", "error", "handover", "on_failed", "worker")

    def __init__(self, placement: Placement, routed: Routed) -> None:
        """Takes the place over: it is free again once the half has ended, or was left. `routed` learns the time."""
        self._routed = routed
        self.worker: WorkerId = placement.worker
        self.ended = trio.Event()
        self.error: ApplianceError | None = None
        self.handover: dict[str, Any] | None = None
        """`KvTransfer.params` of the decode half; None when there is nothing to fetch."""
        self.on_failed: Callable[[], None] | None = None
        """Called when the half fails; for those that do not wait for `ended`."""
        self._placement: Placement | None = placement
        self._stream: AbstractContextManager[None] | None = None

    def enter(self, request: EngineRequest, transport: WorkerTransport) -> None:
        """Open the stream. Raises `WorkerLost` without a link."""
        stream = transport.open(self.worker, request, self)
        stream.__enter__()
        if self.ended.is_set():
            stream.__exit__(None, None, None)
        else:
            self._stream = stream

    def leave(self) -> None:
        """Cancel what still runs and free the place. Safe to call twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.__exit__(None, None, None)
        placement, self._placement = self._placement, None
        if placement is not None:
            placement.__exit__(None, None, None)

    def on_chunk(self, chunk: TokenChunk) -> None:
        """See `StreamSink`."""
        if chunk.finish is None or self.ended.is_set():
            return
        if chunk.finish in FAULTS:
            self.on_error(WorkerLost("the prefill worker gave this request up"))
            return
        if self._placement is not None:
            self._placement.prefill_complete()
        if self._routed.prefilled_at is None:
            self._routed.prefilled_at = time.perf_counter()
        self.handover = chunk.handover
        self._end()

    def on_error(self, error: ApplianceError) -> None:
        """See `StreamSink`."""
        if self.ended.is_set():
            return
        self.error = error
        self._end()
        if self.on_failed is not None:
            self.on_failed()

    def flush(self) -> None:
        """See `StreamSink`. Nothing here goes to a client."""

    def _end(self) -> None:
        self.ended.set()
        self.leave()


class SplitRuns:
    """Runs the prefill halves of one answer's choices."""

    def __init__(
        self,
        router: Router,
        transport: WorkerTransport,
        account: Account,
        *,
        lost: set[WorkerId],
        settings: RequestSettings,
    ) -> None:
        """`lost` holds workers that failed this answer, and gets those that fail here."""
        self._router, self._transport, self._account = router, transport, account
        self._lost, self._settings = lost, settings

    async def begin(
        self,
        request: EngineRequest,
        wish: Callable[[Role], RoutingRequest],
        hold: Callable[[PrefillHalf], None],
        on_failed: Callable[[PrefillHalf], None],
    ) -> KvTransfer | None:
        """Run the prompt of a choice, and return what its decode worker is to be told.

        None: the decode worker is to compute the prompt itself, because the router says so, or because no prefill
        worker was able to. `wish` makes what the router is asked. `hold` gets every half before it starts, to be left
        when the caller gives up; a half that runs beside its decode worker tells of its failure by `on_failed`.
        Raises `InvalidRequest`, what became of a pinned worker, and why no prefill worker did it where one has to.
        """
        failures, transfer = 0, None
        while await self._is_wanted(request.model, wish("aggregated")):
            try:
                transfer = await self._attempt(request, wish("prefill"), hold, on_failed)
                break
            except InvalidRequest:
                raise
            except ApplianceError as error:
                failures += 1
                if isinstance(error, ModelNotReady | Overloaded) or failures > self._settings.migration_limit:
                    if wish("prefill").pinned is not None or not self._router.may_run_whole(wish("aggregated")):
                        raise
                    break
        if transfer is None:
            self._account.routed.prefill = None
        return transfer

    async def _is_wanted(self, model: ModelName, wish: RoutingRequest) -> bool:
        """Ask the router; wait for a prefill worker where nothing goes without. Raises `ModelNotReady`."""
        router = self._router
        if not router.prefill_workers(model) and router.needs_prefill(model):
            await router.wait_ready(model, self._settings.hold_s)
        return router.wants_prefill(wish)

    async def _attempt(
        self,
        request: EngineRequest,
        wish: RoutingRequest,
        hold: Callable[[PrefillHalf], None],
        on_failed: Callable[[PrefillHalf], None],
    ) -> KvTransfer | None:
        routed = self._account.routed
        routed.ask(self._router, "prefill")
        placement = await self._router.place(wish)
        routed.take(placement, prefill=True)
        half = PrefillHalf(placement, routed)
        hold(half)
        try:
            if half.worker in self._lost:  # taken only when there is no other, and it has just failed
                raise ModelNotReady(f"no other prefill worker of {request.model!r} is ready", retry_after_s=5)
            self._account.prefill_workers.append(half.worker)
            return await self._run_half(half, request, placement, on_failed)
        except ApplianceError:
            self._lost.add(half.worker)
            half.leave()
            raise

    async def _run_half(
        self,
        half: PrefillHalf,
        request: EngineRequest,
        placement: Placement,
        on_failed: Callable[[PrefillHalf], None],
    ) -> KvTransfer | None:
        meeting = _meeting(placement)
        asked = _prefill_request(request, placement.engine_rank, meeting)
        if meeting is not None:

            def fail() -> None:
                self._lost.add(half.worker)
                on_failed(half)

            half.on_failed = fail
            half.enter(asked, self._transport)
            return msgspec.structs.replace(meeting, phase="decode")
        half.enter(asked, self._transport)
        # No deadline of its own: the answer's vigil ends a half that is silent for too long.
        await half.ended.wait()
        if half.error is not None:
            raise half.error
        return KvTransfer(phase="decode", params=half.handover) if half.handover else None


def _meeting(placement: Placement) -> KvTransfer | None:
    """Where both halves meet, when the worker's engine is one whose halves run at once."""
    card = placement.card
    if not card.bootstrap_port:
        return None
    return KvTransfer(
        phase="prefill",
        bootstrap_host=card.bootstrap_host,
        bootstrap_port=card.bootstrap_port,
        bootstrap_room=draw_room(placement.rank - card.rank, card.ranks),
    )


def draw_room(rank: int, ranks: int) -> int:
    """A room that nobody else is in, below 2**63; engines that are not told a rank take the room modulo their ranks."""
    return random.randrange((1 << ROOM_BITS) // ranks) * ranks + rank


def _prefill_request(request: EngineRequest, rank: int | None, meeting: KvTransfer | None) -> EngineRequest:
    """The prompt alone: one token, drawn freely, because nobody will see it."""
    stop = StopConditions(max_tokens=1, ignore_eos=True)
    return msgspec.structs.replace(
        request, stop=stop, guided=None, logprobs=None, rank=rank, kv_transfer=meeting or KvTransfer(phase="prefill")
    )

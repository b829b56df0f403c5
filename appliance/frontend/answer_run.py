"""The way of an answer's choices through workers: placed, streamed, and moved to another worker when one is lost."""

from collections.abc import Sequence
from functools import partial

import msgspec
import trio

from appliance.core.errors import ApplianceError, ModelNotReady, WorkerTimeout
from appliance.core.generation import NO_HINTS, NO_PINS, Pins, RoutingHints
from appliance.core.identity import WorkerId
from appliance.core.ports import WorkerTransport
from appliance.core.requests import EngineRequest, KvTransfer
from appliance.core.settings import RequestSettings
from appliance.frontend.accounts import Account, Accounts
from appliance.frontend.choice_run import ChoiceRun
from appliance.frontend.split_runs import SplitRuns
from appliance.frontend.streams.answer import Answer
from appliance.frontend.vigil import Vigil
from appliance.routing.router import Placement, Router, RoutingRequest
from appliance.routing.weights import Role

PING_S = 10.0
"""Longest silence in protocols that have something to break it with."""
RETRY_S = 0.25
"""Before the first try on a worker that just failed the request without a token, if there is no other; then doubled."""
RETRY_CAP_S = 2.0


class Shared(msgspec.Struct, frozen=True):
    """What the runs of all answers of a front end share."""

    router: Router
    transport: WorkerTransport
    accounts: Accounts
    vigil: Vigil


class AnswerRun:
    """Runs all choices of one answer until it is with the client."""

    __slots__ = (
        "_account", "_answer", "_hints", "_last_step_at", "_lost", "_pinged_at", "_pins", "_router", "_runs",
        "_settings", "_shared", "_silent_since",
    )  # fmt: skip

    def __init__(
        self,
        answer: Answer,
        requests: Sequence[EngineRequest],
        account: Account,
        shared: Shared,
        settings: RequestSettings,
        pins: Pins = NO_PINS,
        hints: RoutingHints = NO_HINTS,
    ) -> None:
        """`requests` are those of the answer's choices, by index."""
        self._answer, self._account, self._shared, self._settings = answer, account, shared, settings
        self._router = shared.router
        self._pins = pins
        # What is run counts as load, also for a request that wanted only the choice.
        self._hints = msgspec.structs.replace(hints, query_only=False) if hints.query_only else hints
        self._runs: list[ChoiceRun] = []
        for choice in answer.choices:
            run = ChoiceRun(choice, requests[choice.index])
            choice.on_over = run.leave
            self._runs.append(run)
        self._lost: set[WorkerId] = set()
        self._last_step_at = 0.0
        self._silent_since = self._pinged_at = shared.vigil.now()
        answer.may_move = self._is_worth_a_move

    async def run(self) -> None:
        """Return when the answer is complete, or has ended in an error that the client was shown.

        Raises the error of a choice that cannot go on when nothing was shown. Leaving by any way, also by
        cancellation, cancels what still runs and frees all places.
        """
        self._shared.vigil.add(self)
        try:
            if len(self._runs) == 1:
                await self._launch(self._runs[0])
            else:
                await self._launch_all()
            while True:
                try:
                    await self._answer.wait()
                except ApplianceError as error:
                    if not self._answer.failed:
                        raise
                    if not await self._move_failed():
                        raise error from None
                else:
                    return
        finally:
            self._shared.vigil.discard(self)
            for run in self._runs:
                run.leave()
                run.choice.on_over = run.choice.on_tokens = None  # see `Answer.release`

    async def _launch_all(self) -> None:
        """Launch the choices: one after the other, but their prefill halves at once."""
        if not self._may_split(self._runs[0].request):
            for run in self._runs:
                await self._launch(run)
            return
        errors: list[ApplianceError] = []
        async with trio.open_nursery() as nursery:
            for run in self._runs:
                nursery.start_soon(self._launch_beside, run, errors, nursery.cancel_scope)
        if errors:
            raise errors[0]

    async def _launch_beside(self, run: ChoiceRun, errors: list[ApplianceError], scope: trio.CancelScope) -> None:
        try:
            await self._launch(run)
        except ApplianceError as error:
            errors.append(error)
            scope.cancel()

    async def _launch(self, run: ChoiceRun) -> None:
        """Place and open a choice, elsewhere when the link to the chosen worker has just gone.

        A pin holds for the first attempt: when that worker is lost, any other will do.
        """
        router, routed = self._router, self._account.routed
        while True:
            run.worker = None
            try:
                transfer = await self._run_prefill(run) if self._may_split(run.request) else None
                wish = self._routing_request(run, "decode" if transfer else "aggregated")
                routed.ask(router, wish.role)
                try:
                    placement = await router.place(wish)
                except ModelNotReady as error:
                    placement = await self._place_later(wish, error)
                routed.take(placement)
                self._account.workers.append(run.enter(placement, self._shared.transport, transfer))
                routed.sent()
            except ApplianceError as error:
                if run.worker is None or not error.retryable or not self._may_move(run):
                    raise
                await self._prepare_move(run)
            else:
                return

    def _may_split(self, request: EngineRequest) -> bool:
        return bool(request.token_ids) and self._router.may_split(request.model)

    async def _place_later(self, wish: RoutingRequest, why: ModelNotReady) -> Placement:
        """The last worker may have gone while the prompt was computed elsewhere, and another one may come."""
        while not self._router.ready_workers(wish.model):  # those that are there will not do
            await self._router.wait_ready(wish.model, self._settings.hold_s)
            try:
                return await self._router.place(wish)
            except ModelNotReady as error:
                why = error
        raise why

    async def _run_prefill(self, run: ChoiceRun) -> KvTransfer | None:
        wish = partial(self._routing_request, run)
        split = SplitRuns(self._router, self._shared.transport, self._account, lost=self._lost, settings=self._settings)
        transfer = await split.begin(run.request_now(), wish, run.hold, run.lose_half)
        self._silent_since = self._shared.vigil.now()  # the patience with the decode half begins now
        return transfer

    def _routing_request(self, run: ChoiceRun, role: Role = "aggregated") -> RoutingRequest:
        request, done = run.request, run.choice.token_ids
        return RoutingRequest(
            id=request.id,
            model=request.model,
            token_ids=[*request.token_ids, *done] if done else request.token_ids,
            lora=request.lora,
            pins=NO_PINS if self._lost else self._pins,
            avoid=self._lost,
            hints=self._hints,
            role=role,
        )

    def on_round(self, now: float) -> None:
        """Break a long silence before the first token; a choice without any for too long has failed. See `Vigil`."""
        last_step_at = max(run.choice.last_step_at for run in self._runs)
        if last_step_at != self._last_step_at:
            self._last_step_at, self._silent_since, self._pinged_at = last_step_at, now, now
            return
        if now - self._pinged_at >= PING_S:
            self._pinged_at = now
            self._answer.ping()
        patience_s = self._settings.first_token_s
        if now - self._silent_since >= patience_s:
            self._silent_since = now
            for run in self._runs:
                run.fail(WorkerTimeout(f"the worker gave no token for {patience_s:g} s"))

    async def _move_failed(self) -> bool:
        """Let failed choices go on elsewhere; False when one of them cannot and nothing was shown."""
        for run in self._runs:
            error = run.choice.error
            if error is None:
                continue
            if not error.retryable or not self._may_move(run):
                return self._answer.fail(error)
            await self._prepare_move(run)
            if run.take_up():
                await self._launch(run)
        return True

    async def _prepare_move(self, run: ChoiceRun) -> None:
        run.leave()
        run.moves += 1
        self._shared.accounts.moved(self._account, ongoing=bool(run.choice.token_ids))
        model = run.request.model
        if run.worker is not None:
            self._lost.add(run.worker)
            if run.got_nothing and self._router.ready_workers(model) and not self._router.has_beside(model, self._lost):
                # What failed may be a server behind the worker. Soon it works again, or the worker is known to be gone.
                await trio.sleep(min(RETRY_S * 2 ** (run.moves - 1), RETRY_CAP_S))
        await self._router.wait_ready(model, self._settings.hold_s)

    def _is_worth_a_move(self, index: int) -> bool:
        """What the answer asks, in the pump, when a choice fails."""
        run = self._runs[index]
        if self._is_too_long(run):
            self._shared.accounts.too_long_to_move(self._account)
        return self._may_move(run)

    def _may_move(self, run: ChoiceRun) -> bool:
        return run.can_move and run.moves < self._settings.migration_limit and not self._is_too_long(run)

    def _is_too_long(self, run: ChoiceRun) -> bool:
        limit = self._settings.migration_max_seq_len
        return bool(limit) and len(run.request.token_ids) + len(run.choice.token_ids) > limit

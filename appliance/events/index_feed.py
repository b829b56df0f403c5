"""The front end's side of the event plane: follows the caches of all workers and passes on what the index must do."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from appliance.core.errors import ApplianceError
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, KvReply
from appliance.core.ports import KvEventHistory
from appliance.events.rank_cursor import Change, Phase, Question, RankCursor

LOG = logging.getLogger(__name__)

Warn = Callable[[str], None]
"""Counts one event out of the ordinary: `gap`, `stale`, `unknown_rank`, `gave_up`."""


class CacheView(Protocol):
    """What is fed: an index over the caches of workers. No call may wait.

    `InvalidRequest`, for numbers that are no hashes, ends the link that brought them.
    """

    def apply_kv_events(self, worker: WorkerId, rank: int, events: Sequence[KvEvent]) -> None:
        """Take in changes of a rank's cache."""
        ...

    def clear_worker(self, worker: WorkerId, rank: int | None = None) -> None:
        """Forget what a worker holds; of all its ranks unless one is named."""
        ...


@dataclass(frozen=True, kw_only=True)
class FeedLimits:
    """How hard a front end tries to learn what it has missed."""

    retries: int = 8
    """Questions in a row that may fail before a rank counts as unknown."""
    first_pause_s: float = 0.2
    """Before the second try; doubles with each one after it."""
    recoveries: int = 16
    """Ranks, of all workers, that are asked at once."""


@dataclass
class _Rank:
    cursor: RankCursor = field(default_factory=RankCursor)
    scope: trio.CancelScope | None = None
    """Of the task that asks; None while nothing is asked."""


class IndexFeed:
    """One cursor per worker and rank. Tasks that ask workers run in the nursery given and end with it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        history: KvEventHistory,
        view: CacheView,
        warn: Warn,
        limits: FeedLimits | None = None,
    ) -> None:
        self._nursery, self._history, self._view, self._warn = nursery, history, view, warn
        self._limits = limits or FeedLimits()
        self._slots = trio.CapacityLimiter(self._limits.recoveries)
        self._linked: dict[WorkerId, range] = {}
        self._workers: dict[WorkerId, dict[int, _Rank]] = {}
        self._wanted = True

    def add(self, worker: WorkerId, ranks: range) -> None:
        """Follow a worker that is linked: ask for everything it holds. One that is followed already begins anew."""
        self.remove(worker)
        self._linked[worker] = ranks
        if self._wanted:
            self._begin(worker)

    def remove(self, worker: WorkerId) -> None:
        """The worker or its link is gone: drop its blocks. Unknown workers are no error."""
        self._linked.pop(worker, None)
        self._end(worker)

    def set_wanted(self, wanted: bool) -> None:
        """Whether an index is wanted at all. Until it is, nobody is asked; when it is again, everybody is."""
        if wanted is not self._wanted:
            self._wanted = wanted
            for worker in self._linked:
                (self._begin if wanted else self._end)(worker)

    def on_kv_events(self, worker: WorkerId, rank: int, first_id: int, events: list[KvEvent]) -> None:
        """Take in what a link brought. Workers that are not followed, because they drain, are not listened to."""
        followed = self._workers.get(worker)
        if followed is None:
            return
        if rank not in followed:
            self._warn("unknown_rank")
            return
        cursor = followed[rank].cursor
        was_live, stale = cursor.phase is Phase.LIVE, cursor.stale
        self._do(worker, rank, cursor.on_events(first_id, events))
        if cursor.stale > stale:
            self._warn("stale")
        if cursor.wants_answer:
            if was_live:
                self._warn("gap")
            self._look_after(worker, rank)

    def phases(self) -> dict[tuple[WorkerId, int], Phase]:
        """How well each rank is followed."""
        return {(w, r): rank.cursor.phase for w, ranks in self._workers.items() for r, rank in ranks.items()}

    def _begin(self, worker: WorkerId) -> None:
        ranks = self._linked[worker]
        self._workers[worker] = {rank: _Rank() for rank in ranks}
        for rank in ranks:
            self._look_after(worker, rank)

    def _end(self, worker: WorkerId) -> None:
        followed = self._workers.pop(worker, None)
        if followed is None:
            return
        for rank in followed.values():
            if rank.scope is not None:
                rank.scope.cancel()
        self._view.clear_worker(worker)

    def _do(self, worker: WorkerId, rank: int, change: Change) -> None:
        if change.forget:
            self._view.clear_worker(worker, rank)
        if change.events:
            self._view.apply_kv_events(worker, rank, change.events)

    def _look_after(self, worker: WorkerId, rank: int) -> None:
        """See to it that somebody asks."""
        entry = self._workers[worker][rank]
        if entry.scope is None:
            entry.scope = scope = trio.CancelScope()
            self._nursery.start_soon(self._recover, worker, rank, entry, scope)

    async def _recover(self, worker: WorkerId, rank: int, entry: _Rank, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._ask_until_live(worker, rank, entry.cursor)
        finally:
            entry.scope = None

    async def _ask_until_live(self, worker: WorkerId, rank: int, cursor: RankCursor) -> None:
        failures, pause_s = 0, self._limits.first_pause_s
        while cursor.wants_answer:
            before = cursor.phase, cursor.applied_id
            why = await self._ask(worker, rank, cursor)
            if why is None and (cursor.phase, cursor.applied_id) != before:
                failures, pause_s = 0, self._limits.first_pause_s
                continue
            failures += 1
            if failures > self._limits.retries:
                LOG.warning("cache of worker unknown worker=%s rank=%d reason=%s", worker, rank, why)
                self._warn("gave_up")
                self._do(worker, rank, cursor.give_up())
                return
            await trio.sleep(pause_s)
            pause_s *= 2

    async def _ask(self, worker: WorkerId, rank: int, cursor: RankCursor) -> str | None:
        """Ask once; why there was no whole answer, None when there was one."""
        async with self._slots:
            question = cursor.ask()
            try:
                await self._history.ask_kv_events(
                    worker, rank, question.start_id, self._taker(worker, rank, cursor, question)
                )
            except ApplianceError as error:
                return error.message
        return None

    def _taker(self, worker: WorkerId, rank: int, cursor: RankCursor, question: Question) -> Callable[[KvReply], None]:
        return lambda reply: self._do(worker, rank, cursor.on_reply(question, reply))

"""A stream's place on a worker, from when it is given until the stream has ended."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

import msgspec

from appliance.core.identity import WorkerId
from appliance.core.requests import ModelCard
from appliance.routing.asking import Ask, Grant
from appliance.routing.scheduler import PoolScheduler


class PlaceKeeper(Protocol):
    """Who gives places, and goes on to the requests that wait when one becomes free."""

    @property
    def clock(self) -> Callable[[], float]:
        """The time that schedulers are told, in seconds."""

    def wake(self, settled: Sequence[Ask]) -> None:
        """Requests in the queue have a place, or an error, now."""


class Placement(msgspec.Struct, eq=False):
    """Where one stream goes. A context manager: leaving it, by any way, frees what was booked."""

    _keeper: PlaceKeeper
    _scheduler: PoolScheduler
    _grant: Grant
    worker: WorkerId
    rank: int
    overlap_blocks: int
    """Blocks of the prompt in the slot's device memory, as far as the router knows."""
    isl_blocks: int
    """Complete blocks of the prompt; 0 in modes that do not look at prompts."""

    def __enter__(self) -> "Placement":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        settled = self._scheduler.on_free(self._grant, self._keeper.clock())
        if settled:
            self._keeper.wake(settled)

    @property
    def engine_rank(self) -> int | None:
        """The rank to ask the engine for; None when the worker has only one."""
        return self._grant.slot.engine_rank

    @property
    def card(self) -> ModelCard:
        """What the worker says of itself, such as where decode workers meet it."""
        return self._grant.slot.card

    @property
    def candidates(self) -> int:
        """Slots that it was chosen from."""
        return self._grant.candidates

    @property
    def cached_tokens(self) -> int:
        """Tokens that need not be computed, slower tiers counted by their weights."""
        return self._grant.cached_tokens

    @property
    def waited_s(self) -> float:
        """Time in the queue."""
        return self._grant.waited_s

    @property
    def tracks_output(self) -> bool:
        """`output` has an effect."""
        return self._scheduler.tracks_output

    def prefill_complete(self) -> None:
        """The first token is there. Saying so again changes nothing."""
        if self._grant.in_prefill:
            settled = self._scheduler.on_prefill_complete(self._grant, self._keeper.clock())
            if settled:
                self._keeper.wake(settled)

    def output(self, generated: int) -> None:
        """So many output tokens are there."""
        self._scheduler.on_output(self._grant, generated)

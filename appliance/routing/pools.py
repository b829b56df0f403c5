"""The pools of a router: per model one that generates and one that only computes prompts, and who is in which."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from appliance.core.identity import ModelName, WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.requests import ModelCard
from appliance.routing.asking import Ask, RoutingRequest
from appliance.routing.conditional_disagg import SplitFacts, decode_busy, prefill_busy, runs_split
from appliance.routing.early_events import EarlyEvents
from appliance.routing.eligibility import runs_whole
from appliance.routing.prefix_index import PrefixIndex
from appliance.routing.replica_sync import BookingAdded, PrefillCompleted, ReplicaEvent
from appliance.routing.replicas import ReplicaBookings
from appliance.routing.scheduler import PoolScheduler
from appliance.routing.shared import Shared
from appliance.routing.slots import BusyThresholds
from appliance.routing.weights import Role


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """One slot's load, for metrics and status."""

    model: ModelName
    worker_type: str
    """`prefill` or `decode`; a worker that does both counts as the latter."""
    worker: WorkerId
    rank: int
    streams: int
    decode_blocks: int
    prefill_tokens: int
    busy: bool


class Pools:
    """All schedulers of one router. Calls that free capacity return the requests that they settled."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._generate: dict[ModelName, PoolScheduler] = {}
        self._prefill: dict[ModelName, PoolScheduler] = {}
        self._replicas: dict[PoolScheduler, ReplicaBookings] = {}
        self._home: dict[WorkerId, PoolScheduler] = {}
        self._early = EarlyEvents()
        self._opened: set[ModelName] = set()
        """Models that have had as many workers as they must have at first."""

    def find(self, model: ModelName, role: Role) -> PoolScheduler | None:
        """The scheduler of a model for a role; None when no such worker was ever there."""
        return (self._prefill if role == "prefill" else self._generate).get(model)

    def add(self, worker: WorkerId, card: ModelCard, now: float) -> list[Ask]:
        """A worker joins the pool that its card speaks of, and leaves another one."""
        prefill = card.role == "prefill"
        kind = self._prefill if prefill else self._generate
        scheduler = kind.get(card.name)
        if scheduler is None:
            scheduler = kind[card.name] = PoolScheduler(card.name, prefill=prefill, shared=self._shared)
            self._replicas[scheduler] = ReplicaBookings(scheduler.pool)
        settled: list[Ask] = []
        old = self._home.get(worker)
        if old is not None and old is not scheduler:
            settled += old.remove_worker(worker, now)
        self._home[worker] = scheduler
        settled += scheduler.add_worker(worker, card, now)
        for rank, events in self._early.take(worker):
            scheduler.apply_kv_events(worker, rank, events)
        generating = self._generate.get(card.name)
        if generating is not None and generating.pool.worker_count >= self._shared.settings.min_initial_workers:
            self._opened.add(card.name)
        return settled

    def remove(self, worker: WorkerId, now: float) -> Sequence[Ask]:
        """A worker leaves its pool. An unknown one changes nothing."""
        self._early.drop(worker)
        scheduler = self._home.pop(worker, None)
        return [] if scheduler is None else scheduler.remove_worker(worker, now)

    def configure(self, now: float) -> list[Ask]:
        """Take in the shared settings, which have changed."""
        return [ask for scheduler in self._replicas for ask in scheduler.configure(now)]

    def apply_kv_events(self, worker: WorkerId, rank: int, events: Iterable[KvEvent]) -> None:
        """Cache events of a worker, now or when it joins."""
        scheduler = self._home.get(worker)
        if scheduler is None:
            self._early.keep(worker, rank, events)
        else:
            scheduler.apply_kv_events(worker, rank, events)

    def clear_worker(self, worker: WorkerId, rank: int | None = None) -> None:
        """Nothing is known of the cache of a worker any more, or of one of its ranks."""
        self._early.drop(worker)
        scheduler = self._home.get(worker)
        if scheduler is not None:
            scheduler.prefixes.forget_worker(worker, rank)

    def report_load(self, worker: WorkerId, rank: int, decode_blocks: int, prefill_tokens: int) -> None:
        """What a worker says of its load. An unknown one changes nothing."""
        scheduler = self._home.get(worker)
        if scheduler is not None:
            scheduler.report_load(worker, rank, decode_blocks, prefill_tokens)

    def ready_workers(self, model: ModelName) -> int:
        """Workers that generate, unless something that must be there first is missing."""
        scheduler = self._generate.get(model)
        if scheduler is None or model not in self._opened:
            return 0
        pool, enforced = scheduler.pool, self._shared.settings.enforce_disagg
        if (enforced or pool.needs_prefill) and not self.prefill_workers(model):
            return len({slot.worker for slot in pool.slots if runs_whole(slot.card, enforced)})
        return pool.worker_count

    def has_beside(self, model: ModelName, workers: Collection[WorkerId]) -> bool:
        """Others than these generate for a model."""
        scheduler = self._generate.get(model)
        return scheduler is not None and any(slot.worker not in workers for slot in scheduler.pool.slots)

    def prefill_workers(self, model: ModelName) -> int:
        scheduler = self._prefill.get(model)
        return 0 if scheduler is None else scheduler.pool.worker_count

    def needs_prefill(self, model: ModelName) -> bool:
        """Whether requests wait for a prefill worker: the settings say so, or nobody else computes prompts."""
        scheduler = self._generate.get(model)
        if self._shared.settings.enforce_disagg or scheduler is None or not scheduler.pool.needs_prefill:
            return self._shared.settings.enforce_disagg
        return all(slot.card.needs_prefill for slot in scheduler.pool.slots)

    def may_split(self, model: ModelName) -> bool:
        """Whether there is a prefill worker, or has to be one."""
        prefill = self._prefill.get(model)
        return (prefill is not None and prefill.pool.worker_count > 0) or self.needs_prefill(model)

    def lacks_prefill(self, model: ModelName) -> bool:
        """Whether prefill workers are all that a model's requests wait for."""
        scheduler = self._generate.get(model)
        there = scheduler is not None and bool(scheduler.pool.slots)
        return there and self.needs_prefill(model) and not self.prefill_workers(model)

    def spares_decode(self, request: RoutingRequest) -> bool:
        """Whether a whole request must not go to a decode worker: `enforce_disagg`, and no prefill worker is left."""
        if not self._shared.settings.enforce_disagg or request.role != "aggregated":
            return False
        prefill = self._prefill.get(request.model)
        return prefill is None or all(slot.worker in request.avoid for slot in prefill.pool.slots)

    def may_run_whole(self, request: RoutingRequest) -> bool:
        """Whether a request that prefill workers failed may be done without: some worker can, and is let."""
        scheduler = self._generate.get(request.model)
        request.spares_decode = self.spares_decode(request)
        if scheduler is None or (self._shared.settings.enforce_disagg and not request.spares_decode):
            return False
        return any(runs_whole(slot.card, request.spares_decode) for slot in scheduler.pool.slots)

    def wants_prefill(self, request: RoutingRequest, now: float) -> bool:
        """Whether a prefill worker is to compute the prompt of a request. A pin on one says so."""
        settings, prefill = self._shared.settings, self._prefill.get(request.model)
        if prefill is None or not prefill.pool.slots:
            return False
        generate = self._generate.get(request.model)
        if not settings.conditional_disagg or generate is None or request.pins.prefill is not None:
            return True
        if generate.pool.needs_prefill and self.needs_prefill(request.model):
            return True  # whoever generates computes no prompts
        facts = SplitFacts(
            isl=len(request.token_ids),
            uncached=generate.uncached_tokens(request, now),
            prefill_busy=prefill_busy(settings, prefill.pool.slots, now),
            decode_busy=decode_busy(settings, generate.pool.slots),
        )
        return runs_split(settings, facts)

    def instances(self, model: ModelName) -> list[int]:
        """Instance numbers of all workers of a model."""
        pools = [found for kind in (self._generate, self._prefill) if (found := kind.get(model)) is not None]
        return list(dict.fromkeys(slot.number for scheduler in pools for slot in scheduler.pool.slots))

    def loads(self, now: float) -> list[SlotLoad]:
        """The load of every slot."""
        return [
            SlotLoad(
                scheduler.model,
                _worker_type(scheduler),
                slot.worker,
                slot.rank,
                slot.streams,
                slot.load.blocks_now(),
                slot.load.prefill_at(now),
                slot.busy,
            )
            for scheduler in self._replicas
            for slot in scheduler.pool.slots
        ]

    def indexes(self) -> list[PrefixIndex]:
        """All prefix indexes, reported and guessed."""
        kept = [scheduler.prefixes for scheduler in self._replicas]
        return [index for prefixes in kept for index in (prefixes.index, prefixes.guessed.index) if len(index)]

    def queued(self) -> dict[str, tuple[int, int]]:
        """Requests and prompt tokens that wait, by worker type."""
        found = {"prefill": (0, 0), "decode": (0, 0)}
        for scheduler in self._replicas:
            requests, tokens = found[_worker_type(scheduler)]
            queue = scheduler.queue
            found[_worker_type(scheduler)] = requests + queue.pending, tokens + queue.pending_tokens
        return found

    @property
    def queue_depth(self) -> int:
        """Requests that wait."""
        return sum(scheduler.queue.pending for scheduler in self._replicas)

    def set_thresholds(self, thresholds: Mapping[ModelName, BusyThresholds], now: float) -> list[Ask]:
        """Replace the busy thresholds of models; one that is not named takes those of the settings again."""
        old, self._shared.thresholds = self._shared.thresholds, dict(thresholds)
        changed = {model for model in {*old, *thresholds} if old.get(model) != thresholds.get(model)}
        return [ask for each in self._replicas if each.model in changed for ask in each.configure(now)]

    def thresholds(self) -> dict[ModelName, BusyThresholds]:
        """By model, of those that have had a worker."""
        return {scheduler.model: scheduler.pool.thresholds for scheduler in self._replicas}

    def apply_replica(self, event: ReplicaEvent, now: float) -> Sequence[Ask]:
        """Another router's placement."""
        scheduler = (self._prefill if event.prefill_pool else self._generate).get(event.model)
        if scheduler is None:
            return []
        bookings = self._replicas[scheduler]
        if isinstance(event, BookingAdded):
            bookings.add(event, now)
            return []
        if isinstance(event, PrefillCompleted):
            bookings.complete_prefill(event.router, event.key, now)
        else:
            bookings.free(event.router, event.key, now)
        return scheduler.drain(now)

    def drop_replica(self, router: str, now: float) -> list[Ask]:
        """Another router has left."""
        settled: list[Ask] = []
        for scheduler, bookings in self._replicas.items():
            bookings.drop_router(router, now)
            settled += scheduler.drain(now)
        return settled

    def expire_replicas(self, older_than_s: float, now: float) -> tuple[int, list[Ask]]:
        """Drop what other routers placed before so many seconds; how many, and the requests that need not wait now."""
        dropped = sum(bookings.expire(now - older_than_s, now) for bookings in self._replicas.values())
        settled: list[Ask] = []
        if dropped:
            for scheduler in self._replicas:
                settled += scheduler.drain(now)
        return dropped, settled


def _worker_type(scheduler: PoolScheduler) -> str:
    return "prefill" if scheduler.prefill else "decode"

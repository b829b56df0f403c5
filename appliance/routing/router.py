"""The router of one front end: pools of every model in real time, and requests that are held until a model is ready."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import trio

from appliance.core.errors import ApplianceError, InvalidRequest, ModelNotReady
from appliance.core.identity import ModelName, WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.eligibility import no_worker
from appliance.routing.held import HeldRequests
from appliance.routing.placement import Placement
from appliance.routing.pools import Pools, SlotLoad
from appliance.routing.prefix_index import PrefixIndex
from appliance.routing.replica_sync import ReplicaEvent, Report
from appliance.routing.scheduler import PoolScheduler
from appliance.routing.shared import Shared
from appliance.routing.slots import BusyThresholds
from appliance.routing.weights import resolve

__all__ = ["Placement", "Router", "RoutingRequest"]


class Router:
    """Placement for all models of one front-end process."""

    def __init__(
        self,
        settings: RouterSettings,
        check_hope: Callable[[ModelName], None] = lambda _: None,
        *,
        router_id: str = "",
        report: Report | None = None,
        source: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`check_hope` raises the `ApplianceError` of a model that waiting will not help.

        `report` takes placements to other routers, when `replica_sync` is set. Raises `UsageError` for an unknown mode.
        """
        self._check_hope, self.clock, self._report = check_hope, clock, report
        self._reporting = True
        settings = resolve(settings)
        self._shared = Shared(
            settings=settings,
            source=source or random.Random(),
            timer=time.perf_counter,
            router_id=router_id,
            report=report if settings.replica_sync else None,
        )
        self._pools = Pools(self._shared)
        self._arrival: dict[ModelName, trio.Event] = {}
        self.held = HeldRequests()
        self._parked: dict[Ask, trio.Event] = {}
        """Requests that wait in the queue of a pool."""
        self.decisions, self.measures = self._shared.decisions, self._shared.measures

    @property
    def settings(self) -> RouterSettings:
        """With the preset `load_aware` spelled out."""
        return self._shared.settings

    def configure(self, settings: RouterSettings) -> None:
        """Take new settings; the same ones change nothing. Thresholds that were set for a model stay.

        Raises `UsageError` for an unknown mode.
        """
        settings = resolve(settings)
        if settings != self._shared.settings:
            self._shared.settings = settings
            self._decide_reporting()
            self.wake(self._pools.configure(self.clock()))
            self.look_again()

    def add(self, worker: WorkerId, card: ModelCard) -> None:
        """A worker takes requests from now on; held requests of its model go on."""
        self.wake(self._pools.add(worker, card, self.clock()))
        if self.ready_workers(card.name):
            held = self._arrival.pop(card.name, None)
            if held is not None:
                held.set()

    def withdraw(self, worker: WorkerId) -> None:
        """Place nothing more on a worker, and forget what it had cached. Streams that it runs are not touched."""
        self.wake(self._pools.remove(worker, self.clock()))

    @property
    def wants_kv_events(self) -> bool:
        """Whether cache events are of any use in the present mode."""
        settings = self._shared.settings
        return settings.mode == "kv" and settings.kv_events and settings.overlap_score_credit > 0

    def apply_kv_events(self, worker: WorkerId, rank: int, events: Iterable[KvEvent]) -> None:
        """Take in what a worker says of a rank's cache. What comes before the worker was added is kept until then."""
        self._pools.apply_kv_events(worker, rank, events)

    def clear_worker(self, worker: WorkerId, rank: int | None = None) -> None:
        """Nothing is known of a worker's cache any more, such as after lost events; of one rank if it is named."""
        self._pools.clear_worker(worker, rank)

    def report_load(self, worker: WorkerId, rank: int, *, decode_blocks: int, prefill_tokens: int) -> None:
        """What a worker itself says of its load; it counts for the busy thresholds, in every mode."""
        self._pools.report_load(worker, rank, decode_blocks, prefill_tokens)

    def ready_workers(self, model: ModelName) -> int:
        """Workers that generate for a model; 0 as long as too few have come, or prefill workers are missing."""
        return self._pools.ready_workers(model)

    def has_beside(self, model: ModelName, workers: Collection[WorkerId]) -> bool:
        """Others than these generate for a model."""
        return self._pools.has_beside(model, workers)

    def prefill_workers(self, model: ModelName) -> int:
        """Workers that compute prompts for the decode workers of a model."""
        return self._pools.prefill_workers(model)

    def needs_prefill(self, model: ModelName) -> bool:
        """Requests of a model wait for a prefill worker: `enforce_disagg`, or its other workers compute no prompts."""
        return self._pools.needs_prefill(model)

    def may_split(self, model: ModelName) -> bool:
        """There is a prefill worker for a model, or has to be one."""
        return self._pools.may_split(model)

    def may_run_whole(self, request: RoutingRequest) -> bool:
        """Whether a request that prefill workers failed may be done without them.

        Not on decode workers under `enforce_disagg`, and on no worker that computes no prompts.
        """
        return self._pools.may_run_whole(request)

    def wants_prefill(self, request: RoutingRequest) -> bool:
        """Whether a prefill worker is to compute the prompt: there is one, and `conditional_disagg` lets it.

        Prefixes on decode workers count in mode `kv` only.
        """
        return self._pools.wants_prefill(request, self.clock())

    def load(self) -> dict[WorkerId, int]:
        """Active streams per worker that takes requests."""
        found: dict[WorkerId, int] = {}
        for row in self.loads():
            found[row.worker] = found.get(row.worker, 0) + row.streams
        return found

    def loads(self) -> list[SlotLoad]:
        """The load of every slot, as it is now."""
        return self._pools.loads(self.clock())

    def prefix_indexes(self) -> list[PrefixIndex]:
        """The indexes that are in use: what workers say, and what is guessed. To read only."""
        return self._pools.indexes()

    def queued(self) -> dict[str, tuple[int, int]]:
        """Requests and prompt tokens that wait in queues, by worker type: `prefill` and `decode`."""
        return self._pools.queued()

    @property
    def queue_depth(self) -> int:
        """Requests that wait in queues."""
        return self._pools.queue_depth if self._parked else 0

    def set_busy_thresholds(self, thresholds: Mapping[ModelName, BusyThresholds]) -> None:
        """When workers of the named models count as busy, also of those yet to come; all others take the settings'."""
        self.wake(self._pools.set_thresholds(thresholds, self.clock()))

    def busy_thresholds(self) -> dict[ModelName, BusyThresholds]:
        """The thresholds of every model that has had a worker."""
        return self._pools.thresholds()

    def apply_replica(self, event: ReplicaEvent) -> None:
        """Another router's placement. One's own, and those of unknown models and workers, change nothing."""
        if event.router != self._shared.router_id:
            self.wake(self._pools.apply_replica(event, self.clock()))

    def drop_replica(self, router: str) -> None:
        """Another router has left, and its streams with it."""
        self.wake(self._pools.drop_replica(router, self.clock()))

    def expire_replicas(self, older_than_s: float) -> int:
        """Drop what other routers placed so long ago that their word of its end must be lost; how many there were."""
        dropped, settled = self._pools.expire_replicas(older_than_s, self.clock())
        self.wake(settled)
        return dropped

    def report_placements(self, on: bool) -> None:
        """Begin or cease to report placements, as other routers come and go. It takes `replica_sync` too."""
        self._reporting = on
        self._decide_reporting()

    def _decide_reporting(self) -> None:
        self._shared.report = self._report if self._reporting and self.settings.replica_sync else None

    def why(self, request: str) -> list[dict[str, Any]]:
        """The last decisions on a request as plain data, oldest first; times are seconds since 1970."""
        offset = time.time() - self.clock()
        return [decision.plain(offset) for decision in self.decisions.find(request)]

    async def place(self, request: RoutingRequest) -> Placement:
        """A place for a stream: at once, without a checkpoint, unless it must wait in the queue.

        Raises `ModelNotReady` without a worker that will do, `InvalidRequest` for a pin on nobody, `Overloaded` when
        all workers are too busy. Cancelling leaves the queue and frees what was granted meanwhile.
        """
        scheduler = self._pools.find(request.model, request.role)
        if scheduler is None:
            raise no_worker(request.model)
        if self._shared.settings.enforce_disagg:
            request.spares_decode = self._pools.spares_decode(request)
        outcome = scheduler.on_request(request, self.clock())
        if isinstance(outcome, Ask):
            outcome = await self._wait(scheduler, outcome)
        slot = outcome.slot
        return Placement(self, scheduler, outcome, slot.worker, slot.rank, outcome.overlap_blocks, outcome.isl_blocks)

    def potential_loads(self, request: RoutingRequest) -> list[dict[str, Any]]:
        """What each slot would have to do with this request; books nothing. Raises `ModelNotReady` without a slot."""
        scheduler = self._pools.find(request.model, request.role)
        if scheduler is None:
            raise no_worker(request.model)
        slots, scores = scheduler.potential_loads(request, self.clock())
        return [
            {
                "worker_id": slot.worker,
                "dp_rank": slot.rank,
                "potential_prefill_tokens": scores.prefill_tokens[number],
                "potential_decode_blocks": scores.decode_blocks[number],
            }
            for number, slot in enumerate(slots)
        ]

    async def wait_ready(self, model: ModelName, hold_s: float) -> None:
        """Return once the model has a ready worker; at once when it has. Raises `ModelNotReady` after `hold_s`.

        Raises what `check_hope` raises as soon as waiting is in vain. Cancelling leaves the queue and changes nothing.
        """
        if self.ready_workers(model):
            return
        with trio.move_on_after(hold_s), self.held.hold(model):
            while not self.ready_workers(model):
                self._check_hope(model)
                await self._arrival.setdefault(model, trio.Event()).wait()
            return
        missing = "prefill worker" if self._pools.lacks_prefill(model) else "worker"
        raise ModelNotReady(
            f"model {model!r} has no ready {missing} after {hold_s:g} s of waiting; try again later", retry_after_s=5
        )

    def look_again(self) -> None:
        """Have held requests see whether their wait is still worthwhile."""
        arrivals, self._arrival = self._arrival, {}
        for held in arrivals.values():
            held.set()

    def check_instance(self, model: ModelName, number: int) -> None:
        """Raise `InvalidRequest` unless a ready worker of the model has this instance number."""
        known = self._pools.instances(model)
        if not known:
            raise no_worker(model)
        if number not in known:
            numbers = ", ".join(map(str, known))
            raise InvalidRequest(f"model {model!r} has no worker instance {number}; instances here: {numbers}")

    async def _wait(self, scheduler: PoolScheduler, ask: Ask) -> Grant:
        # No deadline: streams end by themselves or are given up, and either lets the queue move; the client may leave.
        self._parked[ask] = parked = trio.Event()
        try:
            await parked.wait()
        except BaseException:
            scheduler.cancel(ask)
            if isinstance(ask.outcome, Grant):
                self.wake(scheduler.on_free(ask.outcome, self.clock()))
            raise
        finally:
            del self._parked[ask]
        if isinstance(ask.outcome, ApplianceError):
            raise ask.outcome
        assert ask.outcome is not None, "only settled requests are woken"
        return ask.outcome

    def wake(self, settled: Sequence[Ask]) -> None:
        """Let requests go on that waited in the queue and need not any longer."""
        for ask in settled:
            self._parked[ask].set()

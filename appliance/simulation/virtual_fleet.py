"""Routing and engines together in virtual time: requests arrive, are placed by the router's own scheduler, and run on
modelled engines whose cache events reach the router as they reach a front end.

The same input and random source give the same run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count

from appliance.core.errors import ApplianceError
from appliance.core.generation import NO_HINTS, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.requests import ModelCard
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.scheduler import PoolScheduler
from appliance.routing.shared import Shared
from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.engines import make_scheduler
from appliance.simulation.passes import PassResult
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sequence import RunningSequence, SimulatedRequest
from appliance.simulation.timing import Timing

MS_PER_S = 1000.0
MODEL = ModelName("simulated")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One request. Times are milliseconds since the start of the run."""

    at_ms: float
    prompt: Sequence[int]
    output: Sequence[int]
    """The tokens that it will get, one or more."""
    hints: RoutingHints = NO_HINTS
    then: "Callable[[float], Arrival | None] | None" = None
    """Closed loops: the request that follows, such as a session's next turn; asked when this one has ended."""


@dataclass(kw_only=True)
class Journey:
    """What became of one request."""

    arrival: Arrival
    worker: int = -1
    first_token_ms: float = 0.0
    ended_ms: float = 0.0
    cached_tokens: int = 0
    """Prompt tokens that the engine found in its cache."""
    error: ApplianceError | None = None

    @property
    def ttft_ms(self) -> float:
        """From arrival to the first token, queues included."""
        return self.first_token_ms - self.arrival.at_ms


class _Worker:
    """One modelled engine and the streams that were placed on it."""

    def __init__(self, number: int, scheduler: Scheduler) -> None:
        self.number = number
        self.id = WorkerId(f"worker-{number}")
        self.scheduler = scheduler
        self.in_pass = False
        self.streams: dict[RunningSequence, tuple[Grant, Journey]] = {}


class VirtualFleet:
    """Workers of one model behind one router."""

    def __init__(
        self, workers: int, shared: Shared, engine: EngineSettings, timing: Timing, *, block_events: bool = True
    ) -> None:
        """`shared` holds the router's settings and its random source. Raises `UsageError` for unusable settings."""
        self._now_ms = 0.0
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: dict[Ask, Journey] = {}
        self._journeys: list[Journey] = []
        self._router = PoolScheduler(MODEL, prefill=False, shared=shared)
        self._workers: dict[WorkerId, _Worker] = {}
        card = _card(engine, block_events)
        for number in range(workers):
            worker = _Worker(number, make_scheduler(engine, timing))
            worker.scheduler.blocks.log.wanted = block_events
            self._workers[worker.id] = worker
            self._router.add_worker(worker.id, card, 0.0)

    def run(self, arrivals: Sequence[Arrival]) -> list[Journey]:
        """Run all requests, and those that follow them, to their end; in the order of their arrival."""
        for arrival in arrivals:
            self._at(arrival.at_ms, partial(self._arrive, arrival))
        while self._agenda:
            self._now_ms, _, act = heappop(self._agenda)
            act()
        return self._journeys

    def _at(self, time_ms: float, act: Callable[[], None]) -> None:
        heappush(self._agenda, (time_ms, next(self._order), act))

    def _arrive(self, arrival: Arrival) -> None:
        journey = Journey(arrival=arrival)
        self._journeys.append(journey)
        id = RequestId(str(len(self._journeys)))
        wish = RoutingRequest(id=id, model=MODEL, token_ids=arrival.prompt, hints=arrival.hints)
        try:
            outcome = self._router.on_request(wish, self._now_ms / MS_PER_S)
        except ApplianceError as error:
            journey.error = error
            return
        if isinstance(outcome, Ask):
            self._waiting[outcome] = journey
        else:
            self._start(outcome, journey)

    def _start(self, grant: Grant, journey: Journey) -> None:
        worker = self._workers[grant.slot.worker]
        journey.worker = worker.number
        output = journey.arrival.output
        request = SimulatedRequest(
            id=grant.request.id,
            prompt=grant.request.token_ids,
            max_output_tokens=len(output),
            output=lambda start, end: output[start:end],
        )
        worker.streams[worker.scheduler.submit(request)] = grant, journey
        self._begin_pass(worker)

    def _begin_pass(self, worker: _Worker) -> None:
        if worker.in_pass or worker.scheduler.is_idle:
            return
        done = worker.scheduler.step(self._now_ms)
        for sequence, cached in done.admitted:
            journey = worker.streams[sequence][1]
            journey.cached_tokens = max(journey.cached_tokens, cached)
        if done.did_something:
            worker.in_pass = True
            self._at(self._now_ms + done.duration_ms, partial(self._end_pass, worker, done))
        elif done.wake_ms is not None:
            self._at(done.wake_ms, partial(self._begin_pass, worker))

    def _end_pass(self, worker: _Worker, done: PassResult) -> None:
        """Events and tokens of a pass come out at its end, the events first, as on a link."""
        worker.in_pass = False
        now_s = self._now_ms / MS_PER_S
        self._router.apply_kv_events(worker.id, 0, done.events)
        for sequence in done.emitted:
            grant, journey = worker.streams[sequence]
            if not journey.first_token_ms:
                journey.first_token_ms = self._now_ms
                self._settle(self._router.on_prefill_complete(grant, now_s))
        for sequence in done.finished:
            grant, journey = worker.streams.pop(sequence)
            journey.ended_ms = self._now_ms
            self._settle(self._router.on_free(grant, now_s))
            follower = journey.arrival.then(self._now_ms) if journey.arrival.then is not None else None
            if follower is not None:
                self._at(max(follower.at_ms, self._now_ms), partial(self._arrive, follower))
        self._begin_pass(worker)

    def _settle(self, settled: Sequence[Ask]) -> None:
        """Requests that need not wait in the router's queue any longer."""
        for ask in settled:
            journey = self._waiting.pop(ask)
            if isinstance(ask.outcome, Grant):
                self._start(ask.outcome, journey)
            else:
                journey.error = ask.outcome


def _card(engine: EngineSettings, block_events: bool) -> ModelCard:
    return ModelCard(
        name=MODEL,
        context_length=engine.cache_tokens,
        block_size=engine.block_size,
        engine="simulated",
        max_num_seqs=engine.max_num_seqs,
        total_kv_blocks=engine.num_gpu_blocks,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        kv_events=block_events,
    )

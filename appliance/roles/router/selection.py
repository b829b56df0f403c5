"""Selection: groups of workers, the choice of one for a prompt, and reservations that count as its load.

No I/O and no clock; the scheduler's own parts do the work. Nothing is queued here: whoever asks sends the request.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from appliance.core.errors import Conflict, InvalidRequest, ModelNotReady, NotFound, Unprocessable
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.roles.indexer.registry import ModelKey
from appliance.roles.router.bodies import Reservation, Selection, Worker, unsigned
from appliance.routing.asking import Ask, RoutingRequest
from appliance.routing.block_hash import LocalHash, SequenceHash, local_hashes, sequence_hashes
from appliance.routing.cost import Prompt, Scores, cached_tokens, choose, score
from appliance.routing.measures import RouterMeasures
from appliance.routing.overlap import NO_OVERLAPS
from appliance.routing.pool import Pool
from appliance.routing.prefixes import Prefixes
from appliance.routing.slots import Slot
from appliance.routing.weights import overridden, weights_of

EXPIRY_S = 3600.0
"""A reservation that nobody frees ends by itself: its owner is gone."""


@dataclass(eq=False)
class Group:
    """The workers of one model and routing group."""

    block_size: int
    pool: Pool
    prefixes: Prefixes
    workers: dict[int, Worker] = field(default_factory=dict)


@dataclass
class Reserved:
    """One reservation."""

    slot: Slot
    group: Group
    isl: int
    since: float
    blocks: int
    in_prefill: bool = True


@dataclass(frozen=True)
class Choice:
    """A worker's rank for a prompt."""

    worker: Worker
    slot: Slot
    ask: Ask
    cached_tokens: int


class Selector:
    """All groups and reservations. `now` is in seconds of any steady clock."""

    def __init__(self, settings: RouterSettings, source: Random | None = None) -> None:
        self.groups: dict[ModelKey, Group] = {}
        self.reserved: dict[str, Reserved] = {}
        self._settings = settings
        self._source = source or Random()
        self._measures = RouterMeasures()

    def add_worker(self, worker: Worker) -> Group:
        """Take a worker in, or the changed form of a known one. Raises `Conflict` for another block size."""
        group = self.group_of(worker.key, worker.block_size)
        self.groups[worker.key] = group
        group.workers[worker.worker_id] = worker
        group.pool.add(_name(worker.worker_id), _card(worker))
        return group

    def remove_worker(self, worker_id: int) -> list[str]:
        """Forget a worker, its cache and its reservations, whose names are returned. Raises `NotFound`."""
        worker = self.find_worker(worker_id)
        group = self.groups[worker.key]
        del group.workers[worker_id]
        group.pool.remove(_name(worker_id))
        group.prefixes.forget_worker(_name(worker_id))
        if not group.workers:
            del self.groups[worker.key]
        gone = [name for name, one in self.reserved.items() if one.slot.worker == _name(worker_id)]
        for name in gone:
            del self.reserved[name]
        return gone

    def find_worker(self, worker_id: int) -> Worker:
        """A worker. Raises `NotFound`."""
        for worker in self.workers():
            if worker.worker_id == worker_id:
                return worker
        raise NotFound(f"worker {worker_id} not found")

    def workers(self) -> Iterator[Worker]:
        """All workers."""
        for group in self.groups.values():
            yield from group.workers.values()

    def select(self, wish: Selection, now: float) -> Choice:
        """The cheapest worker for a prompt. Books nothing. Raises `NotFound`, `ModelNotReady`, `Overloaded`."""
        group, ask = self._read(wish, now)
        slots, _, _ = group.pool.narrow(ask.request, now)
        if wish.allowed_worker_ids is not None:
            allowed = {_name(one) for one in wish.allowed_worker_ids}
            slots = [slot for slot in slots if slot.worker in allowed]
            if not slots:
                raise ModelNotReady(f"model {wish.model_name!r} has no ready worker among those allowed")
        scores = score(slots, ask.prompt, ask.weights, group.block_size, now)
        slot = slots[choose(scores.costs, ask.weights.temperature, self._source)]
        return self._choice(group, slot, ask)

    def select_and_reserve(self, wish: Selection, now: float) -> Choice:
        """The cheapest worker, with the prompt counted as its load. Raises as `select` and `reserve` do."""
        self._check_new(wish.selection_id)
        choice = self.select(wish, now)
        self._book(wish, choice, now)
        return choice

    def reserve(self, wish: Reservation, now: float) -> Choice:
        """Count a prompt as load of a named worker. Raises `NotFound`, and `Conflict` for an id in use."""
        self._check_new(wish.selection_id)
        group, ask = self._read(wish, now)
        slot = group.pool.find(_name(wish.worker_id), wish.dp_rank)
        if slot is None:
            raise NotFound(f"worker {wish.worker_id} dp_rank {wish.dp_rank} not found")
        choice = self._choice(group, slot, ask)
        self._book(wish, choice, now)
        return choice

    def complete_prefill(self, name: str, now: float) -> None:
        """The request's first token is there. Saying so again changes nothing. Raises `NotFound`."""
        one = self._find(name)
        one.in_prefill = False
        one.slot.load.complete_prefill(name, now)
        one.group.pool.weigh(one.slot)

    def add_output_block(self, name: str, keep: float | None) -> None:
        """The output has filled another block. `keep`: what blocks of this request alone count from now on, 0 to 1.

        Raises `NotFound`.
        """
        one = self._find(name)
        one.blocks += 1
        one.slot.load.grow(name, one.blocks * one.group.block_size - one.isl)
        if keep is not None:
            one.slot.load.fade(name, keep)
        one.group.pool.weigh(one.slot)

    def free(self, name: str, now: float) -> None:
        """The request has ended. Raises `NotFound`."""
        one = self._find(name)
        del self.reserved[name]
        one.slot.streams -= 1
        one.slot.load.free(name, now)
        one.group.pool.weigh(one.slot)

    def expire(self, now: float) -> list[str]:
        """End reservations older than `EXPIRY_S`; their names."""
        old = [name for name, one in self.reserved.items() if now - one.since > EXPIRY_S]
        for name in old:
            self.free(name, now)
        return old

    def potential_loads(self, wish: Selection, now: float) -> tuple[Group, Sequence[Slot], Scores, Ask]:
        """What every rank would have to do with a prompt. Raises `NotFound` and `ModelNotReady`."""
        group, ask = self._read(wish, now)
        slots = group.pool.slots
        return group, slots, score(slots, ask.prompt, ask.weights, group.block_size, now), ask

    def group_of(self, key: ModelKey, block_size: int) -> Group:
        """The group of a key, or a new one that is not kept yet. Raises `Conflict` for another block size."""
        group = self.groups.get(key)
        if group is None:
            prefixes = Prefixes(self._settings, self._measures)
            return Group(block_size, Pool(self._settings), prefixes)
        if group.block_size != block_size:
            raise Conflict(
                f"block_size mismatch for model={key.model} routing_group={key.tenant}: "
                f"existing={group.block_size}, requested={block_size}"
            )
        return group

    def _read(self, wish: Selection, now: float) -> tuple[Group, Ask]:
        group = self.groups.get(wish.key)
        if group is None:
            raise NotFound(f"no workers for model={wish.model_name} routing_group={wish.routing_group}")
        weights = weights_of(self._settings, "aggregated")
        if wish.router_config_override is not None:
            weights = overridden(weights, wish.router_config_override)
        local, isl = _prompt_of(wish, group.block_size)
        sequence = [SequenceHash(value) for value in unsigned(wish.sequence_hashes, "sequence_hashes")]
        ask = Ask(_request(wish), Prompt(isl, len(local), (), NO_OVERLAPS), weights, now)
        ask.local, ask.sequence = local, sequence or sequence_hashes(local)
        if weights.track_active_blocks and weights.assume_kv_reuse:
            ask.prompt.hashes = ask.sequence
        if local:
            group.prefixes.read(ask, group.block_size, "", guess=group.pool.guesses, now=now)
        return group, ask

    def _choice(self, group: Group, slot: Slot, ask: Ask) -> Choice:
        cached = cached_tokens(slot.holder, ask.prompt, ask.weights, group.block_size)
        return Choice(group.workers[int(slot.worker)], slot, ask, cached)

    def _check_new(self, name: str) -> None:
        if not name:
            raise Unprocessable("selection_id must not be empty", param="selection_id")
        if name in self.reserved:
            raise Conflict(f"reservation {name} exists already")

    def _book(self, wish: Selection, choice: Choice, now: float) -> None:
        ask, slot, weights = choice.ask, choice.slot, choice.ask.weights
        group = self.groups[wish.key]
        shared = bool(ask.prompt.hashes)
        slot.streams += 1
        slot.load.book(
            wish.selection_id,
            ask.prompt.isl,
            cached=choice.cached_tokens,
            hashes=ask.prompt.hashes,
            unshared=0 if shared or not weights.track_active_blocks else ask.prompt.blocks,
            track_prefill=weights.track_prefill_tokens,
            expected_output=wish.expected_output_tokens,
            now=now,
        )
        group.pool.weigh(slot)
        if ask.local:
            group.prefixes.record(slot, ask, now)
        self.reserved[wish.selection_id] = Reserved(slot, group, ask.prompt.isl, now, ask.prompt.blocks)

    def _find(self, name: str) -> Reserved:
        one = self.reserved.get(name)
        if one is None:
            raise NotFound(f"reservation {name} not found")
        return one


def _prompt_of(wish: Selection, block_size: int) -> tuple[list[LocalHash], int]:
    """Local hashes and length of a prompt. Raises `Unprocessable`."""
    if wish.token_ids:
        try:
            return local_hashes(wish.token_ids, block_size, lora_name=wish.lora_name), len(wish.token_ids)
        except InvalidRequest as error:
            raise Unprocessable(error.message, param="token_ids") from None
    local = [LocalHash(value) for value in unsigned(wish.block_hashes, "block_hashes")]
    isl = wish.isl_tokens or len(local) * block_size
    if not isl:
        raise Unprocessable("give token_ids, or block_hashes with isl_tokens", param="token_ids")
    if len(local) * block_size > isl or len(wish.sequence_hashes) not in (0, len(local)):
        raise Unprocessable("block_hashes, sequence_hashes and isl_tokens do not fit each other", param="isl_tokens")
    return local, isl


def _request(wish: Selection) -> RoutingRequest:
    return RoutingRequest(id=RequestId(wish.selection_id), model=ModelName(wish.model_name))


def _name(worker_id: int) -> WorkerId:
    return WorkerId(str(worker_id))


def _card(worker: Worker) -> ModelCard:
    return ModelCard(
        name=ModelName(worker.model_name),
        context_length=0,
        engine="",
        block_size=worker.block_size,
        rank=worker.data_parallel_start_rank,
        ranks=worker.data_parallel_size,
        kv_events=bool(worker.kv_events_endpoints),
        total_kv_blocks=worker.total_kv_blocks,
        max_num_batched_tokens=worker.max_num_batched_tokens,
        taints=worker.taints,
    )

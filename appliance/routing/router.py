"""Admission and placement: waits for a ready worker, picks one, and frees its load when the request ends."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from appliance.core.errors import InvalidRequest, ModelNotReady
from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.requests import ModelCard
from appliance.routing.policies import Candidate, Policy, make_policy


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one stream goes."""

    worker: WorkerId
    candidates: int
    """Ready workers that it was chosen from."""


class Router:
    """Candidates of every model and the load that was placed on them. One per front-end process."""

    def __init__(self, mode: str, check_hope: Callable[[ModelName], None] = lambda _: None) -> None:
        """`check_hope` raises the `ApplianceError` of a model that waiting will not help."""
        self.mode = mode
        self._check_hope = check_hope
        self._pools: dict[ModelName, dict[WorkerId, Candidate]] = {}
        self._policies: dict[ModelName, Policy] = {}
        self._arrival: dict[ModelName, trio.Event] = {}

    def add(self, worker: WorkerId, card: ModelCard) -> None:
        """A worker takes requests from now on; held requests of its model go on."""
        pool = self._pools.setdefault(card.name, {})
        pool[worker] = Candidate(worker, max(1, card.max_num_seqs))
        held = self._arrival.pop(card.name, None)
        if held is not None:
            held.set()

    def withdraw(self, worker: WorkerId) -> None:
        """Place nothing more on a worker. Streams that it runs are not touched."""
        for pool in self._pools.values():
            pool.pop(worker, None)

    def set_mode(self, mode: str) -> None:
        """Place by another policy from now on. Raises `UsageError` for an unknown one, before anything changes."""
        make_policy(mode)
        self.mode = mode
        self._policies.clear()

    def ready_workers(self, model: ModelName) -> int:
        return len(self._pools.get(model, ()))

    def load(self) -> dict[WorkerId, int]:
        """Active streams per candidate."""
        return {c.worker: c.active for pool in self._pools.values() for c in pool.values()}

    @contextmanager
    def place(self, model: ModelName, avoid: Collection[WorkerId] = (), pin: int | None = None) -> Iterator[Placement]:
        """Pick a worker now and count the stream as its load until the block is left.

        `avoid` holds workers that just failed this request; they are taken only when there is no other.
        `pin` is the instance number of the only worker that will do; what is to be avoided does not matter then.
        Raises `ModelNotReady` when the model has no ready worker, `InvalidRequest` when none of them has that number.
        """
        candidate, count = self._pick(model, avoid) if pin is None else (self._pinned(model, pin), 1)
        candidate.active += 1
        try:
            yield Placement(candidate.worker, count)
        finally:
            candidate.active -= 1

    async def wait_ready(self, model: ModelName, hold_s: float) -> None:
        """Return once the model has a ready worker; at once when it has. Raises `ModelNotReady` after `hold_s`.

        Raises what `check_hope` raises as soon as waiting is in vain. Cancelling leaves the queue and changes nothing.
        """
        if self._pools.get(model):
            return
        with trio.move_on_after(hold_s):
            while not self._pools.get(model):
                self._check_hope(model)
                await self._arrival.setdefault(model, trio.Event()).wait()
            return
        raise ModelNotReady(
            f"model {model!r} has no ready worker after {hold_s:g} s of waiting; try again later", retry_after_s=5
        )

    def look_again(self) -> None:
        """Have held requests see whether their wait is still worthwhile."""
        arrivals, self._arrival = self._arrival, {}
        for held in arrivals.values():
            held.set()

    def check_instance(self, model: ModelName, number: int) -> None:
        """Raise `InvalidRequest` unless a ready worker of the model has this instance number."""
        self._pinned(model, number)

    def _pinned(self, model: ModelName, number: int) -> Candidate:
        pool = self._pools.get(model)
        if not pool:
            raise ModelNotReady(f"model {model!r} has no ready worker", retry_after_s=1)
        numbers = {instance_number(worker): candidate for worker, candidate in pool.items()}
        if number not in numbers:
            known = ", ".join(map(str, numbers))
            raise InvalidRequest(f"model {model!r} has no worker instance {number}; instances here: {known}")
        return numbers[number]

    def _pick(self, model: ModelName, avoid: Collection[WorkerId]) -> tuple[Candidate, int]:
        pool = self._pools.get(model)
        if not pool:
            raise ModelNotReady(f"model {model!r} has no ready worker", retry_after_s=1)
        candidates = [c for c in pool.values() if c.worker not in avoid] if avoid else list(pool.values())
        candidates = candidates or list(pool.values())
        policy = self._policies.get(model)
        if policy is None:
            policy = self._policies[model] = make_policy(self.mode)
        return policy(candidates), len(candidates)

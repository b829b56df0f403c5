"""Times placements and their parts: run with `python -m tests.bench.routing`.

Prints CPU time, the best of several rounds, because wall time on a shared machine says little.
"""

from collections.abc import Callable
from functools import partial
from random import Random

import trio

from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.kv_events import StoredBlocks
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.active_load import ActiveLoad
from appliance.routing.block_hash import local_hashes, sequence_hashes
from appliance.routing.cost import Prompt, choose, score
from appliance.routing.prefix_index import new_index
from appliance.routing.router import Router, RoutingRequest
from appliance.routing.slots import Slot
from appliance.routing.weights import Weights
from tests.bench.cpu_time import cpu_s, cpu_s_of

CALLS = 2000
MODEL = ModelName("m")
MODES = ("kv", "round-robin", "random", "power-of-two", "least-loaded", "device-aware-weighted")


def main() -> None:
    """Print one line per measurement."""
    trio.run(placements)
    print("booking and freeing")
    for tokens in (100, 4000):
        show(f"  prompt of {tokens} tokens", cpu_s(partial(bookings, tokens, CALLS)) / CALLS)
    print("cost of all candidates and choice")
    for slots in (8, 64, 512):
        show(f"  {slots} slots", cpu_s(partial(choices, slots, 200)) / 200)


async def placements() -> None:
    """A whole placement: request, choice, booking, record, first token, end."""
    for tokens, calls in ((100, CALLS), (4000, CALLS // 10)):
        local = local_hashes(range(tokens), 16)
        show(f"local hashes of {tokens} tokens", call_s(partial(local_hashes, range(tokens), 16), calls))
        show(f"sequence hashes of {tokens} tokens", call_s(partial(sequence_hashes, local), calls))
        print(f"place, first token, free; prompt of {tokens} tokens")
        for mode in MODES if tokens == 100 else MODES[:1]:
            for workers in (1, 8, 64):
                router = make_router(mode, workers, tokens)
                cost = await cpu_s_of(partial(place, router, list(range(tokens)), calls)) / calls
                show(f"  {mode}, {workers} workers", cost)
                if mode == "kv":
                    find = partial(router.prefix_indexes()[0].find_matches, local)
                    show("    of these find_matches", call_s(find, calls))


def make_router(mode: str, workers: int, tokens: int) -> Router:
    """Workers that have the prompt's blocks."""
    router = Router(RouterSettings(mode=mode), source=Random(1))
    local = local_hashes(range(tokens), 16)
    stored = StoredBlocks(list(sequence_hashes(local)), list(local))
    for number in range(workers):
        worker = WorkerId(f"w{number}")
        router.add(
            worker, ModelCard(name=MODEL, context_length=100_000, engine="mocker", max_num_seqs=8, kv_events=True)
        )
        router.apply_kv_events(worker, 0, [stored])
    return router


async def place(router: Router, token_ids: list[int], calls: int) -> None:
    for _ in range(calls):
        with await router.place(RoutingRequest(id=RequestId("r"), model=MODEL, token_ids=token_ids)) as placement:
            placement.prefill_complete()


def bookings(tokens: int, calls: int) -> None:
    hashes = sequence_hashes(local_hashes(range(tokens), 16))
    load = ActiveLoad(16)
    for number in range(calls):
        load.book(number, tokens, cached=16, hashes=hashes)
        load.free(number)


def choices(count: int, calls: int) -> None:
    card = ModelCard(name=MODEL, context_length=100_000, engine="mocker")
    slots = [Slot(WorkerId(f"w{number}"), 0, card, True) for number in range(count)]
    local = local_hashes(range(1600), 16)
    index = new_index()
    for slot in slots:
        index.apply(slot.holder, StoredBlocks(list(local), list(local)))
    prompt, random = Prompt(1600, 100, local, index.find_matches(local)), Random(1)
    for _ in range(calls):
        choose(score(slots, prompt, Weights(), 16, 0.0).costs, 0.0, random)


def call_s(work: Callable[[], object], calls: int) -> float:
    """Least CPU time of one of many calls."""

    def all_of_them() -> None:
        for _ in range(calls):
            work()

    return cpu_s(all_of_them) / calls


def show(what: str, seconds: float) -> None:
    print(f"{what:<60}{seconds * 1e6:>10.1f} us", flush=True)


if __name__ == "__main__":
    main()

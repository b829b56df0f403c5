"""Times both prefix indexes and the block hashes: run with `python -m tests.bench.prefix_index`.

Prints CPU time, the best of several rounds, because wall time on a shared machine says little. Memory is what the
allocator hands out (tracemalloc) after a fill, the event lists not counted.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from random import Random

from appliance.core.identity import WorkerId
from appliance.core.kv_events import RemovedBlocks, StoredBlocks
from appliance.routing.block_hash import LocalHash, local_hashes, sequence_hashes
from appliance.routing.index_events import BlockId, Holder
from appliance.routing.prefix_index import PrefixIndex
from tests.bench.cpu_time import cpu_s
from tests.helpers.prefix_indexes import available, make_index

Chain = list[int]


def main() -> None:
    """Print one line per measurement, with a column for each implementation."""
    kinds = available()
    print(f"{'':<60} {' '.join(f'{kind:>14}' for kind in kinds)}")
    for depth, workers in ((256, 64), (2048, 512)):
        print(f"find_matches, depth {depth}, {workers} workers")
        for name, build in SHAPES.items():
            query, calls = chain(Random(1), depth), 2000 if depth < 1000 else 100
            indexes = [build(make_index(kind), query, workers) for kind in kinds]
            show(f"  {name}", [cpu_s(partial(ask, index, query, calls)) / calls * 1e6 for index in indexes], "us")
    print("stored and removed events, 64 holders")
    for name, length, blocks, shared in (
        ("own prompts, 16 blocks a call", 16, 1024, False),
        ("own prompts, 1 block a call", 1, 256, False),
        ("own prompts, all in one", 1024, 1024, False),
        ("one prompt, 16 blocks a call", 16, 1024, True),
    ):
        stored, removed = zip(*(event_rates(kind, length, blocks, shared=shared) for kind in kinds), strict=True)
        show(f"  {name}: stored", stored, "blocks/s")
        show(f"  {name}: removed, last first", removed, "blocks/s")
    print("memory for a million entries")
    for name, count, length, shared, own_ids in (
        ("own prompts of 1,024 blocks", 64, 1024, False, False),
        ("own prompts of 16 blocks", 64, 16, False, False),
        ("own prompts of 16 blocks, 512 holders", 512, 16, False, False),
        ("prompts shared by 8 holders", 8, 1024, True, False),
        ("the same, each holder with ids of its own", 8, 1024, True, True),
    ):
        used = [mebibytes(kind, count, length, shared=shared, own_ids=own_ids) for kind in kinds]
        show(f"  {name}", used, "MiB")
    print("one of 64 workers with a million blocks in prompts of 16")
    copied, cleared = zip(*map(dump_and_clear_s, kinds), strict=True)
    show("  all as events", [seconds * 1e3 for seconds in copied], "ms")
    show("  cleared", [seconds * 1e3 for seconds in cleared], "ms")
    tokens = [Random(2).randrange(150_000) for _ in range(32_768)]
    hashes = local_hashes(tokens, 16)
    print("block hashes, 32,768 tokens in blocks of 16")
    show("  local", [cpu_s(lambda: local_hashes(tokens, 16)) / len(hashes) * 1e9], "ns a block")
    show("  sequence", [cpu_s(lambda: sequence_hashes(hashes)) / len(hashes) * 1e9], "ns a block")


def chain(random: Random, length: int) -> list[LocalHash]:
    """Random local hashes."""
    return [LocalHash(random.getrandbits(64)) for _ in range(length)]


def ids_of(hashes: list[LocalHash]) -> list[BlockId]:
    """What workers that agree would call the blocks of a prompt."""
    return [BlockId(value) for value in sequence_hashes(hashes)]


def holders(count: int) -> list[Holder]:
    return [Holder(WorkerId(f"worker-{number}")) for number in range(count)]


def all_of_it(index: PrefixIndex, query: list[LocalHash], workers: int) -> PrefixIndex:
    """Every worker has the whole prompt."""
    for holder in holders(workers):
        index.store(holder, ids_of(query), query)
    return index


def staggered(index: PrefixIndex, query: list[LocalHash], workers: int) -> PrefixIndex:
    """Each worker has a little more of the prompt than the one before it."""
    for number, holder in enumerate(holders(workers), 1):
        depth = len(query) * number // workers
        index.store(holder, ids_of(query[:depth]), query[:depth])
    return index


def comb(index: PrefixIndex, query: list[LocalHash], workers: int) -> PrefixIndex:
    """The same, and each goes on with blocks of its own from there."""
    random = Random(3)
    for number, holder in enumerate(holders(workers), 1):
        own = query[: len(query) * number // workers - 1] + chain(random, 8)
        index.store(holder, ids_of(own), own)
    return index


SHAPES: dict[str, Callable[[PrefixIndex, list[LocalHash], int], PrefixIndex]] = {
    "all have all of it": all_of_it,
    "each has a little more": staggered,
    "the same, own blocks behind it": comb,
}


def ask(index: PrefixIndex, query: list[LocalHash], calls: int) -> None:
    for _ in range(calls):
        index.find_matches(query)


def event_rates(kind: str, length: int, blocks: int, *, shared: bool) -> tuple[float, float]:
    """Blocks a second that one core stores and removes; prompts of `blocks` reported `length` at a time."""
    best_store = best_remove = 0.0
    for seed in range(3):
        random = Random(seed)
        common = chain(random, blocks)
        prompts = [(holder, common if shared else chain(random, blocks)) for holder in holders(64)]
        stores, removals = list[tuple[Holder, StoredBlocks]](), list[tuple[Holder, RemovedBlocks]]()
        for holder, hashes in prompts:
            ids = list[int](ids_of(hashes))
            for at in range(0, blocks, length):
                part = slice(at, at + length)
                stores.append((holder, StoredBlocks(ids[part], list(hashes[part]), ids[at - 1] if at else None)))
            ends = range(blocks, 0, -length)
            removals.extend((holder, RemovedBlocks(ids[end - length : end][::-1])) for end in ends)
        index = make_index(kind)
        start = time.process_time()
        for holder, stored in stores:
            index.apply(holder, stored)
        middle = time.process_time()
        for holder, removed in removals:
            index.apply(holder, removed)
        end = time.process_time()
        best_store = max(best_store, 64 * blocks / (middle - start))
        best_remove = max(best_remove, 64 * blocks / (end - middle))
    return best_store, best_remove


def mebibytes(kind: str, count: int, length: int, *, shared: bool, own_ids: bool = False) -> float:
    """Memory of an index with a million entries, per million."""
    random = Random(5)
    index = make_index(kind)
    names = holders(count)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, hashes in enumerate(prompts(random, length)):
        ids = ids_of(hashes)
        for holder in names if shared else islice(names, number % count, number % count + 1):
            index.store(holder, ids_of(chain(random, length)) if own_ids else ids, hashes)
        if len(index) >= 1_000_000:
            break
    del hashes, ids
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / 2**20 * 1_000_000 / len(index)


def dump_and_clear_s(kind: str) -> tuple[float, float]:
    """CPU seconds to say and to forget what one of many holders has."""
    index, names = make_index(kind), holders(64)
    for number, hashes in zip(range(62_500), prompts(Random(6), 16), strict=False):
        index.store(names[number % 64], ids_of(hashes), hashes)
    start = time.process_time()
    for holder, _ in index.dump():
        if holder != names[0]:
            break
    middle = time.process_time()
    index.clear(names[0].worker)
    return middle - start, time.process_time() - middle


def prompts(random: Random, length: int) -> Iterable[list[LocalHash]]:
    while True:
        yield chain(random, length)


def show(what: str, values: Iterable[float], unit: str) -> None:
    """One line of the table."""
    print(f"{what:<60} {' '.join(f'{value:14,.1f}' for value in values)} {unit}", flush=True)


if __name__ == "__main__":
    main()

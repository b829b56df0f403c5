"""Times the way of cache events from a worker to a front end's index: run with `python -m tests.bench.event_plane`.

Prints CPU nanoseconds per stored block, the least of several rounds, for each step of the way; the last two lines are
what an answer with everything costs a worker.
"""

import time
from collections.abc import Callable
from functools import partial
from random import Random

from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, StoredBlocks
from appliance.events.local_indexer import LocalIndexer
from appliance.events.rank_cursor import RankCursor
from appliance.routing.block_hash import LocalHash, sequence_hashes
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import new_index
from appliance.wire.framing import HEADER_BYTES, encode, to_frontend_decoder
from appliance.wire.link_messages import KvEvents

ROUNDS = 5
STEPS = 40
SHAPES = ((1, 64), (16, 16), (64, 16))
"""Blocks of an event, and events of an engine step."""
NAMES = ("record", "encode", "decode", "follow", "index")
HOLDER = Holder(WorkerId("w"))


def main() -> None:
    """Print one line per shape."""
    for blocks, events in SHAPES:
        rounds = [one_round(Random(seed), blocks, events) for seed in range(ROUNDS)]
        least = [min(times) for times in zip(*rounds, strict=True)]
        parts = "  ".join(f"{name} {cost:6.0f}" for name, cost in zip(NAMES, least, strict=True))
        print(f"{blocks:3} blocks an event, {events} events a step, ns per block: {parts}")
    for blocks in (16, 64):
        worker = LocalIndexer(range(1))
        for _ in range(100):
            worker.take(0, step(Random(), blocks, 1024 // blocks))
        took = timed(partial(worker.answer, 0, None))
        print(f"answer with {worker.blocks()} blocks in prompts of {blocks}: {took:.0f} ms")


def one_round(random: Random, blocks: int, events: int) -> list[float]:
    """Nanoseconds per block of each part of the way."""
    worker, cursor, index = LocalIndexer(range(1)), RankCursor(), new_index()
    cursor.on_reply(cursor.ask(), worker.answer(0, None)[0])
    decode = to_frontend_decoder().decode
    spent = [0.0] * len(NAMES)
    clock = time.process_time
    for _ in range(STEPS):
        stored = step(random, blocks, events)
        batches: list[tuple[int, int, list[KvEvent]]] = []
        marks = [clock()]
        worker.take(0, stored)
        worker.flush(lambda *batch, kept=batches: kept.append(batch))
        marks.append(clock())
        frame = encode(KvEvents(*batches[0]))
        marks.append(clock())
        message = decode(memoryview(frame)[HEADER_BYTES:])
        marks.append(clock())
        assert isinstance(message, KvEvents)
        change = cursor.on_events(message.first_id, message.events)
        marks.append(clock())
        for event in change.events:
            index.apply(HOLDER, event)
        marks.append(clock())
        spent = [sum_ + end - start for sum_, start, end in zip(spent, marks, marks[1:], strict=False)]
    assert len(index) == blocks * events * STEPS
    return [seconds / len(index) * 1e9 for seconds in spent]


def step(random: Random, blocks: int, events: int) -> list[KvEvent]:
    """What an engine step stores: so many prompts of their own."""
    prompts = [[LocalHash(random.getrandbits(64)) for _ in range(blocks)] for _ in range(events)]
    return [StoredBlocks(list(sequence_hashes(prompt)), list(prompt)) for prompt in prompts]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


if __name__ == "__main__":
    main()

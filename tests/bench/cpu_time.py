"""CPU time of short calls: the least over some rounds, because wall time on a shared machine says little."""

import time
from collections.abc import Awaitable, Callable

ROUNDS = 7


def cpu_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Least CPU seconds of a call over some rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


async def cpu_s_of(work: Callable[[], Awaitable[object]], rounds: int = ROUNDS) -> float:
    """The same for work that runs on the event loop."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        await work()
        times.append(time.process_time() - start)
    return min(times)

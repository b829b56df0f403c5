"""Router modes on shared prefixes, in virtual time: `python -m tests.bench.virtual_routing`.

The real scheduler of the router and modelled engines; nothing is measured but what the model says, so every run gives
the same table. `prefix_routing.py` does the same with processes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean

from appliance.core.settings import RouterSettings
from appliance.routing.scheduler import Shared
from appliance.routing.weights import resolve
from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.timing import ModelledTiming, PolynomialTiming
from appliance.simulation.virtual_fleet import Arrival, Journey, VirtualFleet
from tests.bench.prefix_workload import Sessions, SharedPrefixes, ideal_cached_tokens

ENGINE = EngineSettings(num_gpu_blocks=4096, block_size=64)
MODES = ("round-robin", "least-loaded", "kv")


@dataclass(frozen=True)
class Summary:
    """What a run comes to."""

    requests: int
    ttft_ms: float
    """Mean."""
    cached: float
    """Share of all prompt tokens."""
    of_ideal: float
    """Cached tokens by those that one infinite cache would have reused."""
    work: float
    """Most tokens computed by one worker, prompts and output, by the mean of all."""

    @classmethod
    def of(cls, journeys: Sequence[Journey], workers: int, block_size: int) -> "Summary":
        """Of requests that all came to their end."""
        prompt_tokens = sum(len(one.arrival.prompt) for one in journeys)
        cached = sum(one.cached_tokens for one in journeys)
        ideal = ideal_cached_tokens([(one.arrival.prompt, one.arrival.output) for one in journeys], block_size)
        work = Counter(dict.fromkeys(range(workers), 0))
        for one in journeys:
            work[one.worker] += len(one.arrival.prompt) - one.cached_tokens + len(one.arrival.output)
        return cls(
            requests=len(journeys),
            ttft_ms=mean(one.ttft_ms for one in journeys),
            cached=cached / prompt_tokens,
            of_ideal=cached / ideal,
            work=max(work.values()) / mean(work.values()),
        )


def shared_prefixes(load: SharedPrefixes) -> list[Arrival]:
    """Open loop: requests come when they come."""
    return [
        Arrival(at_ms=at, prompt=prompt, output=_output(load.seed, number, load.output_tokens))
        for number, (at, prompt) in enumerate(load.arrivals())
    ]


def sessions(load: Sessions) -> list[Arrival]:
    """First turns; each turn brings the next one."""
    return [_turn(load, session, 0, at, prompt) for session, (at, prompt) in enumerate(load.first_prompts())]


def run(workers: int, router: RouterSettings, arrivals: Sequence[Arrival], engine: EngineSettings = ENGINE) -> Summary:
    """One run with ties broken in the same way each time."""
    shared = Shared(settings=resolve(router), source=Random(0))
    fleet = VirtualFleet(workers, shared, engine, ModelledTiming(model=PolynomialTiming()))
    return Summary.of(fleet.run(arrivals), workers, engine.block_size)


def _turn(load: Sessions, session: int, turn: int, at: float, prompt: Sequence[int]) -> Arrival:
    output = _output(load.seed, 1000 * session + turn, load.output_tokens)

    def follower(now_ms: float) -> Arrival | None:
        if turn + 1 == load.turns:
            return None
        pause, next_prompt = load.follow(session, turn + 1, prompt, output)
        return _turn(load, session, turn + 1, now_ms + pause, next_prompt)

    return Arrival(at_ms=at, prompt=prompt, output=output, then=follower)


def _output(seed: int, number: int, count: int) -> list[int]:
    return Random(f"{seed}/output/{number}").choices(range(10, 200), k=count)


def main() -> None:
    """Print the table."""
    cases: list[tuple[str, int, Callable[[], list[Arrival]]]] = [
        ("80 % shared, 8 workers", 8, lambda: shared_prefixes(SharedPrefixes())),
        ("sessions, 3 workers", 3, lambda: sessions(Sessions())),
    ]
    print(f"{'workload':24}{'mode':16}{'requests':>9}{'TTFT ms':>10}{'cached':>8}{'of ideal':>10}{'work max/mean':>15}")
    for name, workers, make in cases:
        for mode in MODES:
            done = run(workers, RouterSettings(mode=mode), make())
            print(
                f"{name:24}{mode:16}{done.requests:>9}{done.ttft_ms:>10.1f}{done.cached:>8.3f}{done.of_ideal:>10.3f}"
                f"{done.work:>15.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

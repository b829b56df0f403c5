"""Router modes on shared prefixes and on sessions, with processes: `python -m tests.bench.prefix_routing`.

The workloads and the modelled engines of `virtual_routing.py`, but each worker, the front end, its event plane and the
client are real. An engine's passes take the time that the model says, times `--slow-down`; the pauses of the workloads
are stretched alike. So a machine that is too small for so many processes still shows what the router does, and times
divided by the slow-down compare with the table in virtual time.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import trio

from tests.bench.prefix_workload import Sessions, SharedPrefixes, ideal_cached_tokens
from tests.bench.streaming_client import StreamedAnswer, ask, completion_body
from tests.e2e.appliance_process import appliance

MODES = ("round-robin", "least-loaded", "kv")
BLOCK_SIZE = 64
BLOCKS = 4096
HEADER = (
    f"{'workload':24}{'mode':14}{'requests':>9}{'TTFT ms':>9}{'p99':>8}{'to rr':>7}{'cached':>8}{'of ideal':>10}"
    f"{'work max/mean':>15}{'errors':>8}{'late p99 ms':>13}"
)


@dataclass(frozen=True)
class Visit:
    """One request of a workload and its answer."""

    prompt: Sequence[int]
    due: float
    """When it was to be sent, on trio's clock."""
    answer: StreamedAnswer


@dataclass(frozen=True)
class Summary:
    """What a run comes to. Times in milliseconds as the client saw them."""

    requests: int
    ttft: float
    ttft_p99: float
    cached: float
    of_ideal: float
    work: float
    errors: Counter[str]
    late_p99: float
    """How late the client sent: large where the machine is short of processor time."""

    @classmethod
    def of(cls, visits: Sequence[Visit], workers: int) -> "Summary":
        """Of all requests; those that failed count as errors only."""
        fine = sorted((one for one in visits if one.answer.outcome == "ok"), key=lambda one: one.answer.sent_at)
        cached = sum(one.answer.cached_tokens for one in fine)
        ideal = ideal_cached_tokens([(one.prompt, one.answer.token_ids) for one in fine], BLOCK_SIZE)
        work: Counter[int | None] = Counter()
        for one in fine:
            work[one.answer.worker] += len(one.prompt) - one.answer.cached_tokens + one.answer.completion_tokens
        ttft = [one.answer.ttft_ms for one in fine]
        return cls(
            requests=len(visits),
            ttft=mean(ttft),
            ttft_p99=_p99(ttft),
            cached=cached / sum(len(one.prompt) for one in fine),
            of_ideal=cached / ideal,
            work=max(work.values()) / (sum(work.values()) / workers),
            errors=Counter(one.answer.outcome for one in visits if one.answer.outcome != "ok"),
            late_p99=_p99([(one.answer.sent_at - one.due) * 1e3 for one in fine]),
        )

    def row(self, workload: str, mode: str, baseline: float) -> str:
        """A line of the table."""
        ratio = baseline / self.ttft
        return (
            f"{workload:24}{mode:14}{self.requests:>9}{self.ttft:>9.1f}{self.ttft_p99:>8.0f}{ratio:>7.2f}"
            f"{self.cached:>8.3f}{self.of_ideal:>10.3f}{self.work:>15.2f}{sum(self.errors.values()):>8}"
            f"{self.late_p99:>13.1f}" + (f"  {dict(self.errors)}" if self.errors else "")
        )


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


async def shared_prefixes(port: int, slow_down: float, load: SharedPrefixes) -> list[Visit]:
    """Open loop: requests are sent when they are due, whatever became of earlier ones."""
    made = [
        (at * slow_down / 1e3, prompt, _body(prompt, load.output_tokens, number, "worker_id"))
        for number, (at, prompt) in enumerate(load.arrivals())
    ]
    visits: list[Visit] = []

    async def visit(due: float, prompt: Sequence[int], body: bytes) -> None:
        await trio.sleep_until(due)
        visits.append(Visit(prompt, due, await ask(port, body)))

    begin = trio.current_time() + 0.5
    async with trio.open_nursery() as nursery:
        for at, prompt, body in made:
            nursery.start_soon(visit, begin + at, prompt, body)
    return visits


async def sessions(port: int, slow_down: float, load: Sessions) -> list[Visit]:
    """Each turn begins some time after the answer to the one before, with all that was said in its prompt."""
    visits: list[Visit] = []

    async def converse(session: int, due: float, prompt: Sequence[int]) -> None:
        for turn in range(load.turns):
            body = _body(prompt, load.output_tokens, 1000 * session + turn, "worker_id", "token_ids")
            await trio.sleep_until(due)
            answer = await ask(port, body)
            visits.append(Visit(prompt, due, answer))
            if answer.outcome != "ok":
                return
            pause, prompt = load.follow(session, turn + 1, prompt, answer.token_ids)
            due = answer.ended_at + pause * slow_down / 1e3

    begin = trio.current_time() + 0.5
    async with trio.open_nursery() as nursery:
        for session, (at, prompt) in enumerate(load.first_prompts()):
            nursery.start_soon(converse, session, begin + at * slow_down / 1e3, prompt)
    return visits


def _body(prompt: Sequence[int], tokens: int, seed: int, *extra_fields: str) -> bytes:
    nvext = {"extra_fields": extra_fields}
    return completion_body("m", list(prompt), tokens, seed=seed, ignore_eos=True, nvext=nvext)


def run(
    binary: str | None,
    workers: int,
    mode: str,
    slow_down: float,
    drive: Callable[[int], Awaitable[list[Visit]]],
) -> Summary:
    """One appliance, one workload."""
    engine = ("timing=polynomial", f"block_size={BLOCK_SIZE}", f"num_gpu_blocks={BLOCKS}")
    engine_args = [word for arg in (*engine, f"speedup_ratio={1 / slow_down}") for word in ("--engine-arg", arg)]
    args = ("--engine", "mocker", "--replicas", str(workers), *engine_args, "--router-mode", mode, "m")
    with tempfile.TemporaryDirectory() as folder, appliance(binary, Path(folder) / "state", *args) as one:
        return Summary.of(trio.run(drive, one.port), workers)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="the executable to measure; without it `python -m appliance`")
    parser.add_argument("--slow-down", type=float, default=1.0, help="how much slower engines and arrivals are")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--workloads", nargs="+", default=("shared", "sessions"), choices=("shared", "sessions"))
    parser.add_argument("--requests", type=int, default=SharedPrefixes.requests, help="of the first workload")
    options = parser.parse_args()
    binary = str(Path(options.binary).resolve()) if options.binary else None
    slow_down = options.slow_down
    shared = SharedPrefixes(requests=options.requests)
    print(f"slow-down {slow_down}, load of the machine {os.getloadavg()[0]:.1f}\n{HEADER}", flush=True)
    cases: dict[str, tuple[str, int, Callable[[int], Awaitable[list[Visit]]]]] = {
        "shared": ("80 % shared, 8 workers", 8, partial(shared_prefixes, slow_down=slow_down, load=shared)),
        "sessions": ("sessions, 3 workers", 3, partial(sessions, slow_down=slow_down, load=Sessions())),
    }
    for name, workers, drive in (cases[each] for each in options.workloads):
        baseline = 0.0
        for mode in options.modes:
            done = run(binary, workers, mode, slow_down, drive)
            baseline = baseline or done.ttft
            print(done.row(name, mode, baseline), flush=True)
    print(f"load of the machine at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

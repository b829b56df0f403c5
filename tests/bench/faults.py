"""Processes are killed under streams: `python -m tests.bench.faults [--seconds 60] [--cases mocker ...]`.

Each client asks the same again and again, with a seed of its own, so what it must get is known from a run that nothing
disturbs. Workers are killed in turn and only while they serve, so that none is killed more often than
`supervision.exits_per_minute` allows and each is started again at once. A stream that lives for four kills can meet all
of them, once more than `requests.migration_limit` allows by default: the mocker's streams are shorter than that.
"""

import argparse
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import trio

from tests.bench.streaming_client import StreamedAnswer, ask, completion_body
from tests.e2e.appliance_process import Appliance, appliance, eventually

MOVED = re.compile(r"^dynamo_frontend_model_migration_total\{.*\} (\S+)$", re.MULTILINE)
OTHER_TEXT = "other text than undisturbed"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One appliance, its clients, and how often one of its processes is killed."""

    args: tuple[str, ...]
    streams: int
    tokens: int
    every_s: float
    more: dict[str, object] = field(default_factory=dict)
    """Members of each request, beside its seed."""


CASES = {
    "mocker": Case(
        args=("--engine", "mocker", "--replicas", "4", "--engine-arg", "step_ms=50"),
        streams=200,
        tokens=80,
        every_s=2.0,
        more={"ignore_eos": True},
    ),
    "llamacpp": Case(
        args=("--engine", "llamacpp", "--replicas", "2"),
        streams=8,
        tokens=200,
        every_s=4.0,
        more={"temperature": 0, "ignore_eos": True},
    ),
    "frontends": Case(
        args=("--engine", "mocker", "--replicas", "2", "--engine-arg", "step_ms=50", "--frontend-processes", "2"),
        streams=100,
        tokens=200,
        every_s=3.0,
        more={"ignore_eos": True},
    ),
}


@dataclass
class Record:
    """What happened in a run."""

    expected: list[str] = field(default_factory=list)
    """The undisturbed text of each client."""
    answers: list[StreamedAnswer] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, client: int, answer: StreamedAnswer) -> None:
        """Count an answer, whose text must be the undisturbed one."""
        self.answers.append(answer)
        same = answer.outcome != "ok" or answer.text == self.expected[client]
        self.outcomes[answer.outcome if same else OTHER_TEXT] += 1

    def gaps(self, moves: int) -> list[float]:
        """Seconds without a token in the streams that lost their worker, in order.

        A client does not see which worker it is served by. But so many of the longest silences over a kill are theirs
        as streams were moved.
        """
        seen = sorted(one.silence_over(kill) for one in self.answers for kill in self.kills)
        return [one for one in seen[len(seen) - min(moves, len(seen)) :] if one > 0]


Kill = Callable[[], None]


async def storm(port: int, case: Case, seconds: float, aim: Callable[[int], Kill | None], model: str) -> Record:
    """Undisturbed answers first; then clients that ask again and again, and on time what `aim(number)` gives."""
    record = Record()
    record.expected = [one.text for one in await _undisturbed(port, case, model)]
    over = trio.Event()

    async def client(number: int) -> None:
        body = _body(case, model, number)
        await trio.sleep(case.every_s * number / case.streams)  # so that kills meet streams of every age
        while not over.is_set():
            record.add(number, await ask(port, body))

    async with trio.open_nursery() as nursery:
        for number in range(case.streams):
            nursery.start_soon(client, number)
        begin = trio.current_time()
        for number in range(1, int(seconds / case.every_s)):
            kill = await trio.to_thread.run_sync(aim, number)  # takes a second where the machine is busy
            await trio.sleep_until(begin + number * case.every_s)
            if kill is not None:
                kill()
                record.kills.append(trio.current_time())
        await trio.sleep(case.every_s)
        over.set()
    return record


async def _undisturbed(port: int, case: Case, model: str) -> list[StreamedAnswer]:
    answers: dict[int, StreamedAnswer] = {}

    async def once(number: int) -> None:
        answers[number] = await ask(port, _body(case, model, number))

    async with trio.open_nursery() as nursery:
        for number in range(case.streams):
            nursery.start_soon(once, number)
    for one in answers.values():
        if one.outcome != "ok" or one.completion_tokens != case.tokens:
            raise SystemExit(f"error: an undisturbed request ended with {one.outcome}, {one.completion_tokens} tokens")
    return [answers[number] for number in range(case.streams)]


def _body(case: Case, model: str, number: int) -> bytes:
    return completion_body(model, f"Story number {number} begins", case.tokens, seed=number, **case.more)


def aim_at_worker(one: Appliance, number: int) -> Kill | None:
    """SIGKILL of the next worker in turn that serves; None when none but one does."""
    serving = [row["pid"] for row in one.status()["workers"] if row["phase"] == "ready" and row["pid"]]
    return psutil.Process(serving[number % len(serving)]).kill if len(serving) > 1 else None


def moved_streams(one: Appliance) -> int:
    """How many streams went to another worker so far."""
    return int(sum(float(count) for count in MOVED.findall(one.get("/metrics").decode())))


def report(name: str, case: Case, record: Record, moves: int) -> None:
    """Print what happened."""
    print(
        f"{name}: {case.streams} streams of {case.tokens} tokens, {len(record.kills)} kills, one each {case.every_s} s"
    )
    print(f"  requests {sum(record.outcomes.values())}: {dict(record.outcomes)}")
    gaps = record.gaps(moves)
    if gaps:
        p50, p99 = gaps[len(gaps) // 2], gaps[int(0.99 * len(gaps))]
        print(f"  {moves} streams moved, {len(gaps)} of them between two tokens; without a token for", end=" ")
        print(f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {gaps[-1] * 1e3:.0f} ms", flush=True)


def workers_die(binary: str | None, name: str, case: Case, seconds: float) -> None:
    """No request may fail, and every text must be what it would have been."""
    model = ("m",) if "mocker" in case.args else ()
    with tempfile.TemporaryDirectory() as folder, appliance(binary, Path(folder) / "state", *case.args, *model) as one:
        record = trio.run(partial(storm, one.port, case, seconds, partial(aim_at_worker, one), one.models[0]))
        report(name, case, record, moved_streams(one))


def a_front_end_dies(binary: str | None, case: Case) -> None:
    """Only the streams of the one that was killed may end, at once, with an error or the end of the connection."""
    with tempfile.TemporaryDirectory() as folder, appliance(binary, Path(folder) / "state", *case.args, "m") as one:
        eventually(lambda: [row["phase"] for row in one.status()["frontends"]] == ["ready", "ready"])
        own: set[int] = set()

        def aim(number: int) -> Kill | None:
            if number > 1:
                return None
            victim = psutil.Process(one.status()["frontends"][0]["pid"])

            def kill() -> None:
                victim.suspend()  # so that it accepts nobody between the look at its connections and its end
                own.update(line.raddr.port for line in victim.net_connections("tcp4") if line.raddr)
                victim.kill()

            return kill

        record = trio.run(partial(storm, one.port, case, 4 * case.every_s, aim, "m"))
        report("frontends", case, record, 0)
        at = record.kills[0]
        ended = [a for a in record.answers if a.outcome != "ok"]
        theirs = [a for a in ended if a.local_port in own]
        others = len(ended) - len(theirs)
        print(f"  connections of the victim {len(own)}; failed: {len(theirs)} of its own, {others} of others")
        print(f"  the last one ended {max((a.ended_at - at for a in ended), default=0) * 1e3:.0f} ms after the kill")


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", help="the executable to test; without it `python -m appliance`")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    binary = str(Path(options.binary).resolve()) if options.binary else None
    print(f"load of the machine {os.getloadavg()[0]:.1f}", flush=True)
    for name in options.cases:
        if name == "frontends":
            a_front_end_dies(binary, CASES[name])
        else:
            workers_die(binary, name, CASES[name], options.seconds)
    print(f"load of the machine at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

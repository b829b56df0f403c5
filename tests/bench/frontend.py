"""Cost of the request path: CPU of the front end per token, TTFT and errors, for mocker steps of 0 and 6 ms.

python -m tests.bench.frontend [--binary PATH] [--router-mode kv] [--seconds 5] [--quick]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.bench.load import Load, Outcome, request_bytes, run_load
from tests.e2e.appliance_process import Appliance, appliance

STREAMS = (1, 16, 64, 256)
LONG_TOKENS = 4000
HEADER = (
    f"{'case':28}{'streams':>8}{'osl':>6}{'CPU ms/1k tok':>15}{'tok/s':>9}{'TTFT p50':>10}{'p99 ms':>9}{'errors':>8}"
)


def front_end_pids(one: Appliance) -> list[int]:
    """Process ids of the front ends, as `status` reports them."""
    return [f["pid"] for f in one.status()["frontends"]]


def measure(one: Appliance, case: str, streams: int, osl: int, seconds: float) -> None:
    load = Load(port=one.port, model="m", clients=streams, output_tokens=osl, seconds=seconds)
    outcome, cpu = run_load(load, front_end_pids(one))
    print(row(case, streams, osl, outcome, cpu), flush=True)


def row(case: str, streams: int, osl: int, outcome: Outcome, cpu: float) -> str:
    tokens = max(1, outcome.requests * osl)
    return (
        f"{case:28}{streams:>8}{osl:>6}{cpu / tokens * 1e6:>15.2f}{tokens / outcome.wall:>9.0f}"
        f"{outcome.ttft_ms(0.5):>10.2f}{outcome.ttft_ms(0.99):>9.2f}{sum(outcome.errors.values()):>8}"
        + (f"  {dict(outcome.errors)}" if outcome.errors else "")
    )


def parsers_at_work(binary: str | None, seconds: float) -> None:
    """The same flood with and without a reasoning and a tool-call parser."""
    tools: dict[str, object] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    for reasoning, calls in (("none", "none"), ("qwen3", "hermes")):
        with tempfile.TemporaryDirectory() as folder:
            parsers = ("--reasoning-parser", reasoning, "--tool-call-parser", calls)
            args = ("--engine", "mocker", "--engine-arg", "step_ms=0", *parsers, "m")
            with appliance(binary, Path(folder) / "state", *args) as one:
                load = Load(port=one.port, model="m", clients=16, output_tokens=256, seconds=seconds, extra=tools)
                outcome, cpu = run_load(load, front_end_pids(one))
                print(row(f"flood, parsers {calls}", 16, 256, outcome, cpu), flush=True)


def short_requests(one: Appliance, seconds: float) -> None:
    """CPU of the front end per short request without streaming."""
    load = Load(port=one.port, model="m", clients=16, output_tokens=1, stream=False, seconds=seconds)
    outcome, cpu = run_load(load, front_end_pids(one))
    print(
        f"short request (osl 1, 16 clients): {cpu / max(1, outcome.requests) * 1e6:.0f} us of CPU, "
        f"{outcome.requests / outcome.wall:.0f}/s, errors {dict(outcome.errors)}",
        flush=True,
    )


def long_prompts(one: Appliance, seconds: float) -> None:
    """CPU of the front end per request of LONG_TOKENS prompt tokens, whose words it has seen before."""
    words = LONG_TOKENS * 100 // _prompt_tokens(one, words=100)
    load = Load(port=one.port, model="m", clients=4, output_tokens=1, stream=False, input_words=words, seconds=seconds)
    outcome, cpu = run_load(load, front_end_pids(one))
    print(
        f"prompt of {_prompt_tokens(one, words=words)} tokens (osl 1, 4 clients): "
        f"{cpu / max(1, outcome.requests) * 1e3:.2f} ms of CPU, {outcome.requests / outcome.wall:.0f}/s, "
        f"errors {dict(outcome.errors)}",
        flush=True,
    )


def _prompt_tokens(one: Appliance, words: int) -> int:
    """Tokens of a prompt of the load generator."""
    load = Load(port=one.port, model="m", clients=1, output_tokens=1, stream=False, input_words=words)
    asked = json.loads(request_bytes(load, 0).partition(b"\r\n\r\n")[2])
    tokens: int = one.chat("m", asked["messages"][0]["content"], max_tokens=1)["usage"]["prompt_tokens"]
    return tokens


def request_path(binary: str | None, mode: str, seconds: float, quick: bool) -> None:
    """The matrix of steps and streams."""
    streams = (1, 64) if quick else STREAMS
    for step_ms in (0, 6):
        with tempfile.TemporaryDirectory() as folder:
            settings = (f"step_ms={step_ms}", "max_num_seqs=2048")
            args = ("--engine", "mocker", *(part for one in settings for part in ("--engine-arg", one)))
            args = (*args, "--router-mode", mode, "--context-length", "8192", "m")
            with appliance(binary, Path(folder) / "state", *args) as one:
                kind = "flood" if step_ms == 0 else f"paced {step_ms} ms"
                for count in streams:
                    measure(one, f"{kind}", count, 64, seconds)
                for count in (64, 256):
                    measure(one, f"{kind}", count, 256, seconds)
                if step_ms == 0:
                    measure(one, f"{kind}", 1000, 64, seconds)
                    short_requests(one, seconds)
                    long_prompts(one, seconds)


def start_to_first_token(binary: str | None, runs: int = 5) -> None:
    """Executable start to the first streamed token of the demo model, and idle memory."""
    times = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            with appliance(binary, Path(folder) / "state") as one:
                outcome, _ = run_load(
                    Load(port=one.port, model=one.models[0], clients=1, output_tokens=1, seconds=0, warm_up_s=0)
                )
                assert not outcome.errors
                times.append(time.perf_counter() - started)
    spread = f"min {min(times):.2f}, max {max(times):.2f}, {runs} runs"
    print(f"start to first token of the demo model: median {statistics.median(times):.2f} s ({spread})")


def idle_memory(binary: str | None) -> None:
    """Sum of PSS of all our processes but the workers."""
    with tempfile.TemporaryDirectory() as folder, appliance(binary, Path(folder) / "state") as one:
        time.sleep(2)
        workers = {p.pid for p in one.workers()}
        rows = [(p, p.memory_full_info().pss / 2**20) for p in one.family() if p.pid not in workers]
        for process, mib in rows:
            print(f"  {mib:6.1f} MiB  {_what(process)}")
        print(f"idle memory without workers: {sum(mib for _, mib in rows):.0f} MiB (sum of PSS)")


def _what(process: psutil.Process) -> str:
    return " ".join(Path(part).name if part.startswith("/") else part for part in process.cmdline()[:5])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", help="the executable to measure; without it `python -m appliance`")
    parser.add_argument("--router-mode", default="kv", help="how requests are placed")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time per row")
    parser.add_argument("--quick", action="store_true", help="1 and 64 streams only")
    options = parser.parse_args(argv)
    binary = str(Path(options.binary).resolve()) if options.binary else None
    print(
        json.dumps(
            {
                "cpus": psutil.cpu_count(),
                "binary": bool(binary),
                "seconds per row": options.seconds,
                "mode": options.router_mode,
            }
        )
    )
    print(HEADER)
    request_path(binary, options.router_mode, options.seconds, options.quick)
    parsers_at_work(binary, options.seconds)
    start_to_first_token(binary)
    idle_memory(binary)


if __name__ == "__main__":
    main()

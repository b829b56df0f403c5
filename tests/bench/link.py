"""Prints the CPU that a front end's end of a link needs per token, with a sink that does nothing.

    python tests/bench/link.py [--seconds 2]

The worker runs in a process of its own. "flood": tokens as fast as they come; "paced": a step every 6 ms.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import trio

from appliance.core.errors import ApplianceError
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.requests import EngineRequest, StopConditions, TokenChunk
from appliance.transport.link_server import LinkServer
from appliance.transport.links import Links, open_links
from tests.fakes.token_engine import TokenEngine, make_card

WORKER = WorkerId("bench")
ENDLESS = 1 << 40
WARM_UP_S = 0.3


class NullSink:
    """Counts, nothing else."""

    def __init__(self) -> None:
        self.tokens = 0
        self.flushes = 0

    def on_chunk(self, chunk: TokenChunk) -> None:
        self.tokens += len(chunk.token_ids)

    def on_error(self, error: ApplianceError) -> None:
        raise error

    def flush(self) -> None:
        self.flushes += 1


async def serve(path: Path, step_s: float) -> None:
    server = LinkServer(TokenEngine(step_s=step_s), make_card(max_num_seqs=64), path, worker=WORKER)
    await server.run()


async def hold_stream(links: Links, sink: NullSink) -> None:
    request = EngineRequest(
        id=RequestId("r"), model=ModelName("m"), token_ids=[1], stop=StopConditions(max_tokens=ENDLESS)
    )
    with links.open(WORKER, request, sink):
        await trio.sleep_forever()


async def measure(path: Path, streams: int, seconds: float) -> str:
    sinks = [NullSink() for _ in range(streams)]
    async with open_links() as links, trio.open_nursery() as nursery:
        await links.connect(WORKER, str(path))
        for sink in sinks:
            nursery.start_soon(hold_stream, links, sink)
        await trio.sleep(WARM_UP_S)
        before = sum(sink.tokens for sink in sinks), sum(sink.flushes for sink in sinks), time.process_time()
        began = time.monotonic()
        await trio.sleep(seconds)
        tokens = sum(sink.tokens for sink in sinks) - before[0]
        flushes = sum(sink.flushes for sink in sinks) - before[1]
        cpu_us = (time.process_time() - before[2]) * 1e6
        rate = tokens / (time.monotonic() - began)
        nursery.cancel_scope.cancel()
    return f"{cpu_us / tokens:8.2f} us/token  {tokens / flushes:6.1f} tokens/flush  {rate:10.0f} tokens/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step-s", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve, options.step_s)
        return
    gc.freeze()
    for name, step_s in (("flood", 0.0), ("paced", 0.006)):
        for streams in (1, 16, 64):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "w.sock"
                argv = [sys.executable, __file__, "--serve", str(path), "--step-s", str(step_s)]
                with subprocess.Popen(argv) as worker:
                    while not path.exists():
                        time.sleep(0.02)
                    time.sleep(0.1)
                    print(
                        f"{name} {streams:3} streams  {trio.run(measure, path, streams, options.seconds)}", flush=True
                    )
                    worker.terminate()


if __name__ == "__main__":
    main()

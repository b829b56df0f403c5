"""A stand-in for an engine that publishes KV events: run as a process, so that it can be killed as one.

`python -m tests.e2e.publisher_process ENDPOINT REPLAY_ENDPOINT`, then one JSON list of events a line on stdin; each is
answered with its sequence number. An event is `{"stored": [hashes], "parent": hash, "tokens": [ids], "medium": name}`,
`{"removed": [hashes]}` or `{"cleared": true}`. Ends with stdin.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from appliance.events.zmq_publisher import publishing
from appliance.events.zmq_sockets import zmq_context
from appliance.events.zmq_wire import AllBlocksCleared, BlockRemoved, BlockStored, WireEvent

ROOT = Path(__file__).parent.parent.parent


class Publisher:
    """The process as a test sees it."""

    def __init__(self, endpoint: str, replay_endpoint: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, endpoint, replay_endpoint],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stdout.readline() == "up\n"

    def publish(self, *events: dict[str, Any]) -> int:
        """Publish one batch; its sequence number."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(events) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def publisher(endpoint: str, replay_endpoint: str) -> Iterator[Publisher]:
    """A publisher that is gone when the block is left."""
    one = Publisher(endpoint, replay_endpoint)
    try:
        yield one
    finally:
        one.kill()


def stored(hashes: list[int], tokens: list[int], parent: int | None = None, medium: str = "GPU") -> dict[str, Any]:
    """Blocks stored."""
    return {"stored": hashes, "parent": parent, "tokens": tokens, "medium": medium}


def _read(event: dict[str, Any]) -> WireEvent:
    if "stored" in event:
        count = len(event["tokens"]) // len(event["stored"])
        return BlockStored(event["stored"], event["parent"], event["tokens"], count, medium=event["medium"])
    return BlockRemoved(event["removed"]) if "removed" in event else AllBlocksCleared()


async def _main(*endpoints: str) -> None:
    with zmq_context() as context:
        async with publishing(context, *endpoints) as one:
            print("up", flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                print(one.publish([_read(event) for event in json.loads(line)]), flush=True)


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])

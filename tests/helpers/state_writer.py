"""A process that writes to a state store without end and says on stdout what was acknowledged;
tests kill it.

Usage: python state_writer.py DATABASE FIRST
"""

import sys
from pathlib import Path

import trio

from appliance.core.ports import StateWriter
from appliance.core.records import LedgerEvent, StoredObject
from appliance.state.sqlite import open_store

PAIR = ("left", "right")
PADDING = "x" * 2000  # several database pages per transaction


def write_pair(state: StateWriter, n: int) -> None:
    """One transaction: two objects and a ledger row that all say `n`."""
    for name in PAIR:
        state.put(StoredObject(kind="Pair", name=name, spec={"n": n, "padding": PADDING}))
    state.record(LedgerEvent(subject="pair", action="apply", reason="test", inputs={"n": n}))


async def write_on(path: Path, first: int) -> None:
    """Write pairs `first`, `first + 1`, ... and print each number once it was acknowledged."""
    print("opening", flush=True)
    async with open_store(path, event_rows=50) as store:
        n = first
        while True:
            await store.write(lambda state: write_pair(state, n))  # noqa: B023 - called before n changes
            print(n, flush=True)
            n += 1


if __name__ == "__main__":
    trio.run(write_on, Path(sys.argv[1]), int(sys.argv[2]))

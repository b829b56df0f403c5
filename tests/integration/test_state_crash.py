"""A store whose process is killed at random moments: nothing acknowledged is lost, nothing is half done."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from appliance.core.ports import StateReader
from appliance.state.sqlite import open_store

WRITER = Path(__file__).parent.parent / "helpers" / "state_writer.py"
ROOT = WRITER.parent.parent.parent
KILLS = 50
START_S = 30.0


def write_until_killed(path: Path, first: int, delay_s: float) -> int:
    """Run the writer, kill it `delay_s` after its first acknowledged write; the last number it acknowledged."""
    command = [sys.executable, str(WRITER), str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(delay_s)
        process.kill()
        lines += process.stdout.readlines()
        process.wait(START_S)
    whole = [line for line in lines if line.endswith("\n")]  # the kill may have cut the last one
    assert whole, "the writer acknowledged nothing"
    return int(whole[-1])


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def numbers(state: StateReader) -> tuple[list[int], list[int]]:
    pairs = [obj.spec["n"] for obj in state.list_all("Pair")]
    return pairs, [event.inputs["n"] for event in state.events("pair", 50)]


@pytest.mark.slow
async def test_killed_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(20)  # the same moments in each run, as far as the machine allows
    path = tmp_path / "state.db"
    last = 0
    for _ in range(KILLS):
        acknowledged = write_until_killed(path, last + 1, chance.uniform(0, 0.03))
        async with open_store(path) as store:
            (left, right), ledger = await store.read(numbers)
        assert left == right == ledger[0], "half a transaction"
        assert acknowledged <= left <= acknowledged + 1, "an acknowledged write is lost"
        assert ledger == list(range(left, left - len(ledger), -1)), "a ledger row is lost"
        check_file(path)
        last = left

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


def run_until_killed(path: Path, first: int, delay_s: float, *, lines_before: int) -> list[str]:
    """Run the writer, kill it `delay_s` after that many lines; the whole lines that it wrote."""
    command = [sys.executable, str(WRITER), str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(lines_before)]
        time.sleep(delay_s)
        process.kill()
        lines += process.stdout.readlines()
        process.wait(START_S)
    return [line for line in lines if line.endswith("\n")]  # the kill may have cut the last one


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
        acknowledged = int(run_until_killed(path, last + 1, chance.uniform(0, 0.03), lines_before=2)[-1])
        async with open_store(path) as store:
            (left, right), ledger = await store.read(numbers)
        assert left == right == ledger[0], "half a transaction"
        assert acknowledged <= left <= acknowledged + 1, "an acknowledged write is lost"
        assert ledger == list(range(left, left - len(ledger), -1)), "a ledger row is lost"
        check_file(path)
        last = left


@pytest.mark.slow
async def test_killed_while_the_file_is_made(tmp_path: Path) -> None:
    chance = random.Random(21)
    for attempt in range(15):
        path = tmp_path / f"{attempt}.db"
        run_until_killed(path, 1, chance.uniform(0, 0.012), lines_before=1)
        async with open_store(path) as store:
            pairs, ledger = await store.read(numbers)
        assert len(pairs) in (0, 2)
        assert len(set(pairs)) <= 1
        assert len(ledger) == (pairs[0] if pairs else 0)
        check_file(path)

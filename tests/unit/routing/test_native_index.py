"""What only the native index can get wrong: memory that runs out, crowds and numbers at their limits, odd objects."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from random import Random

import pytest

from appliance.core.identity import WorkerId
from appliance.core.kv_events import Tier
from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.prefix_index import PrefixIndex
from tests.helpers.prefix_indexes import make_index

ROOT = Path(__file__).parents[3]
PROMPT = [LocalHash(value) for value in (2**64 - 1, 2**63, 2**63 - 1, 0)]

WITHOUT_MEMORY = """
import resource
from appliance.routing.prefix_index import new_index
from appliance.routing.index_events import Holder

index, holder = new_index(), Holder("w")
numbers = list(range(3_000_000))
batches = [numbers[at : at + 1000] for at in range(0, len(numbers), 1000)]
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, -1))
stored = 0
try:
    for batch in batches:
        index.store(holder, batch, batch, batch[0] - 1 if stored else None)
        stored += 1
except MemoryError:
    pass
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
held = len(index)
assert 0 < stored * 1000 <= held < (stored + 1) * 1000 <= len(numbers), (stored, held)
assert index.block_counts() == {holder: (held, 0, 0)} and index.kept() == held
assert index.find_matches(numbers[:1000]).device == {holder: 1000}
assert index.remove(holder, numbers[:held]).value == "ok"
assert len(index) == index.kept() == 0
for batch in batches[:10]:
    index.store(holder, batch, batch)
assert len(index) == 10_000
print("whole")
"""


@pytest.fixture
def index() -> PrefixIndex:
    return make_index("native")


@pytest.mark.usefixtures("index")
def test_memory_that_runs_out_leaves_the_index_whole() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("whole", "")


def test_blocks_of_many_holders_in_all_tiers(index: PrefixIndex) -> None:
    """From one holder in a word to crowds of several words, and back."""
    holders = [Holder(WorkerId("w"), rank) for rank in range(300)]
    for number, holder in enumerate(holders):
        index.store(holder, PROMPT, PROMPT, tier=Tier(number % 3))
        found = index.find_matches(PROMPT)
        shares = (found.device, found.host_pinned, found.disk)
        assert [len(share) for share in shares] == [sum(one % 3 <= tier for one in range(number + 1)) for tier in Tier]
    Random(1).shuffle(holders)
    for left in range(len(holders), 0, -1):
        assert len(index.find_matches(PROMPT).disk) == left
        index.clear(WorkerId("w"), holders[left - 1].rank)
    assert index.kept() == 0


def test_a_block_that_changes_its_id_again_and_again(index: PrefixIndex) -> None:
    """Also when there are enough to make the tables large, and small again."""
    holder = Holder(WorkerId("w"))
    blocks = [LocalHash(value) for value in range(20_000)]
    for shift in (0, 100_000, 50_000):
        assert index.store(holder, [local + shift for local in blocks], blocks) is Outcome.APPLIED
        assert index.remove(holder, [blocks[7] + 1_000_000 + shift]) is Outcome.BLOCK_UNKNOWN
    assert len(index) == index.kept() == 20_000
    assert index.remove(holder, [*blocks, *(local + 100_000 for local in blocks)]) is Outcome.BLOCK_UNKNOWN
    assert len(index) == 20_000
    assert index.remove(holder, [local + 50_000 for local in reversed(blocks)]) is Outcome.APPLIED
    assert len(index) == index.kept() == 0


def test_an_index_in_a_circle_is_collected() -> None:
    class Worker(str):
        """A name that refers to the index that knows it."""

        known_to: PrefixIndex

    worker = Worker("w")
    worker.known_to = make_index("native")
    gone = weakref.ref(worker)
    worker.known_to.store(Holder(WorkerId(worker)), [1], [1])
    del worker
    gc.collect()
    assert gone() is None


def test_a_list_that_changes_while_it_is_read(index: PrefixIndex) -> None:
    class Shrinking:
        """A number that empties the list it is in."""

        def __index__(self) -> int:
            ids.clear()
            return 1

    ids: list[int] = [Shrinking(), *range(100)]  # type: ignore[list-item]
    index.store(Holder(WorkerId("w")), ids, [5])
    assert index.find_matches([LocalHash(5)]).device == {Holder(WorkerId("w")): 1}
    ids += [Shrinking(), *range(100)]  # type: ignore[list-item]
    assert index.remove(Holder(WorkerId("w")), ids) is Outcome.APPLIED

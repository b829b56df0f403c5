"""Which unused blocks go first, and the counts behind it."""

import pytest

from appliance.core.errors import InternalError
from appliance.simulation.block_pool import BlockPool
from appliance.simulation.event_log import EventLog
from appliance.simulation.eviction import MultiLruEviction, make_eviction
from appliance.simulation.frequency import FADES_AFTER, MOST, FrequencySketch

BLOCKS = 8


def pool(backend: str) -> BlockPool:
    return BlockPool(BLOCKS, make_eviction(backend), EventLog())


def use(pool: BlockPool, *chain: int) -> None:
    """One request: take what is there, fill the rest, and go."""
    taken = [pool.share(block) for block in chain[: pool.match(chain)]]
    for block in chain[len(taken) :]:
        assert pool.take()
        taken.append(pool.fill(block, block, taken[-1] if taken else None))
    pool.release(taken)


@pytest.mark.parametrize(("backend", "kept"), [("lru", 0), ("lineage", 0), ("multi-lru", 3)])
def test_prompts_seen_once_displace_what_is_used_often_unless_uses_are_counted(backend: str, kept: int) -> None:
    cache = pool(backend)
    for _ in range(3):
        use(cache, 1, 2, 3)
    for start in range(100, 160, 4):
        use(cache, start, start + 1, start + 2, start + 3)
    assert cache.match([1, 2, 3]) == kept


def test_among_equals_the_one_used_longest_ago_goes() -> None:
    cache = pool("multi-lru")
    for block in range(BLOCKS):
        use(cache, block)
    use(cache, 0)
    use(cache, 100)
    assert (cache.match([0]), cache.match([1]), cache.match([2])) == (1, 0, 1)


def test_a_chain_goes_from_its_end_whatever_its_levels_are() -> None:
    cache = pool("multi-lru")
    use(cache, 1, 2, 3)
    for _ in range(9):
        use(cache, 1)  # hot, and the blocks behind it are cold
    use(cache, 50, 51, 52, 53, 54)
    use(cache, 60, 61)
    assert cache.match([1, 2, 3]) == 1


def test_levels_are_left_for_others_only_when_the_colder_ones_are_empty() -> None:
    cache = pool("multi-lru")
    for level, uses in enumerate((1, 3, 8, 15)):
        for block in (10 * level, 10 * level + 1):
            for _ in range(uses):
                use(cache, block)
    gone = []
    for new in range(1000, 1000 + BLOCKS):
        before = [block for block in (0, 1, 10, 11, 20, 21, 30, 31) if cache.match([block])]
        assert cache.take()
        cache.fill(new, new, None)  # it stays in use, or it would be the coldest
        gone += [block for block in before if not cache.match([block])]
    assert gone == [0, 1, 10, 11, 20, 21, 30, 31]


def test_what_comes_back_is_as_warm_as_it_was() -> None:
    cache = pool("multi-lru")
    for _ in range(2):
        use(cache, 7)
    for start in range(100, 140, 4):
        use(cache, start, start + 1, start + 2, start + 3)
    assert cache.match([7]) == 0, "two uses are no more than one to the levels"
    use(cache, 7)
    for start in range(200, 240, 4):
        use(cache, start, start + 1, start + 2, start + 3)
    assert cache.match([7]) == 1


def test_uses_leave_nothing_behind() -> None:
    eviction = MultiLruEviction()
    cache = BlockPool(BLOCKS, eviction, EventLog())
    for _ in range(2000):
        use(cache, 1, 2)
    assert sum(map(len, eviction._levels)) < 100
    use(cache, *range(10, 10 + BLOCKS))
    assert cache.match([1]) == 0


def test_nothing_to_give_up_is_an_error() -> None:
    with pytest.raises(InternalError, match="no unused one"):
        MultiLruEviction().pop()


def test_counts_are_right_for_few_keys_and_end_somewhere() -> None:
    sketch = FrequencySketch()
    keys = [key * 0x9E3779B97F4A7C15 & (1 << 64) - 1 for key in range(1, 300)]
    for at, key in enumerate(keys):
        for _ in range(at % 20):
            sketch.add(key)
    assert [sketch.count(key) for key in keys] == [min(at % 20, MOST) for at in range(len(keys))]
    assert sketch.count(12345) == 0


def test_counts_fade() -> None:
    sketch = FrequencySketch()
    for _ in range(12):
        sketch.add(1)
    for _ in range(FADES_AFTER - 12 - 1):
        sketch.add(2)
    assert (sketch.count(1), sketch.count(2)) == (12, MOST)
    assert sketch.add(2) == MOST // 2
    assert (sketch.count(1), sketch.count(2)) == (6, MOST // 2)

"""The events of the slots' blocks, fed to an index, against what the slots hold."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.identity import WorkerId
from appliance.engines.cards import BLOCK_TOKENS
from appliance.engines.llamacpp.slot_blocks import SlotBlocks
from appliance.engines.llamacpp.slots import common_prefix
from appliance.routing.block_hash import local_hashes
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.prefix_index import new_index

SELF = Holder(WorkerId("w"))
# Few tokens in runs of half a block, so that prefixes of all lengths meet.
CONTENTS = st.lists(st.integers(1, 2), max_size=12).map(lambda runs: [one for one in runs for _ in range(8)])
STEPS = st.lists(st.tuples(st.integers(0, 2), CONTENTS), max_size=30)


@given(steps=STEPS)
def test_the_index_holds_what_some_slot_holds(steps: list[tuple[int, list[int]]]) -> None:
    blocks, index = SlotBlocks(3), new_index()
    slots: list[list[int]] = [[], [], []]
    for slot, content in steps:
        events = blocks.keep(slot, common_prefix(slots[slot], content))
        events += blocks.hold(slot, content[: len(content) // 2])
        events += blocks.hold(slot, content)
        slots[slot] = content
        assert all(index.apply(SELF, event) is Outcome.APPLIED for event in events)
        prefixes = {tuple(held[:end]) for held in slots for end in range(BLOCK_TOKENS, len(held) + 1, BLOCK_TOKENS)}
        assert len(index) == len(prefixes)
        for prefix in prefixes:
            matches = index.find_matches(local_hashes(prefix, BLOCK_TOKENS))
            assert matches.device == {SELF: len(prefix) // BLOCK_TOKENS}

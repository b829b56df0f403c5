"""Which worker holds which prefix: stores and removes blocks as workers report them, and answers for a prompt.

Pure and single-threaded. Blocks are found by content (chains of local hashes); the ids that workers give them only say
which block an event speaks of. `DESIGN.md` explains both implementations.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, Tier
from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.overlap import Overlaps
from appliance.routing.run_index import RunIndex


class PrefixIndex(Protocol):
    """The blocks of all holders of one model. All operations are synchronous and do no I/O."""

    def apply(self, holder: Holder, event: KvEvent) -> Outcome:
        """Do what an event of a holder says. Raises `InvalidRequest` as `store` does."""

    def find_matches(self, local_hashes: Sequence[LocalHash]) -> Overlaps:
        """How many blocks from the first on each holder has, per tier."""

    def shared_blocks(self, local_hashes: Sequence[LocalHash]) -> int:
        """How many blocks from the first on somebody has on disk, whoever it is for each of them."""

    def store(
        self,
        holder: Holder,
        block_ids: Sequence[int],
        local_hashes: Sequence[int],
        parent: int | None = None,
        tier: Tier = Tier.DEVICE,
    ) -> Outcome:
        """A holder has these blocks in a tier, the first one after `parent`, or at the start of a prompt.

        Storing twice changes nothing. A parent that the holder has in no tier drops the whole call. An id that the
        holder has used for another block now names this one, and the other counts as removed.
        Raises `InvalidRequest` for lists of different length and for numbers that are not unsigned 64-bit.
        """

    def remove(self, holder: Holder, block_ids: Sequence[int], tier: Tier = Tier.DEVICE) -> Outcome:
        """A holder no longer has these blocks in a tier. What follows them is kept, for when they come back."""

    def clear(self, worker: WorkerId, rank: int | None = None) -> None:
        """Forget all that a worker has, in all tiers; of all its ranks unless one is named."""

    def block_counts(self) -> dict[Holder, tuple[int, ...]]:
        """Blocks of each holder by tier, the device first. A holder stays listed until it is cleared."""

    def kept(self) -> int:
        """Different blocks, with those that nobody has but that stand before others."""

    def dump(self) -> Iterator[tuple[Holder, KvEvent]]:
        """Everything as events, holder by holder, parents before children. The index must not change meanwhile.

        An empty index that applies them answers as this one does. A block that its holder has without having the one
        before it needs that one to be stored; it is, and removed last.
        """

    def __len__(self) -> int:
        """Entries: a block that two holders have counts twice, one that a holder has in two tiers too."""


def new_index() -> PrefixIndex:
    """An empty index: the native one where it was built, else its twin in Python."""
    return _CLASS()


def is_native() -> bool:
    """Whether indexes are native."""
    return _CLASS is not RunIndex


def _choose() -> type[PrefixIndex]:
    try:
        from appliance.routing.native_index import NativeIndex
    except ImportError:  # not built: there was no compiler
        return RunIndex
    return NativeIndex


_CLASS = _choose()

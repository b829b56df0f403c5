from collections.abc import Sequence

from appliance.routing.block_hash import LocalHash, SequenceHash
from appliance.routing.index_events import Holder

def hash_blocks(tokens: Sequence[int], block_size: int, further: bool, seed: int, /) -> list[LocalHash]:
    """As the twin in `python_hashes`."""

def chain_hashes(hashes: Sequence[int], after: int | None, seed: int, /) -> list[SequenceHash]:
    """As the twin in `python_hashes`."""

class BlockTree:
    """Blocks of all holders; what `PrefixIndex` says of them holds here. Raises `MemoryError`, also for more than
    262,144 holders; the blocks that an interrupted call had stored by then stay. Holders may be any hashable value."""

    def store(
        self, holder: Holder, block_ids: Sequence[int], local_hashes: Sequence[int], parent: int | None, tier: int, /
    ) -> bool:
        """False: the holder does not have the parent. Raises `ValueError` where `PrefixIndex` finds a bad event."""

    def remove(self, holder: Holder, block_ids: Sequence[int], tier: int, /) -> bool:
        """False: some were not there."""

    def forget(self, holder: Holder, /) -> None: ...
    def holders(self) -> list[Holder]: ...
    def block_counts(self, holder: Holder, /) -> tuple[int, int, int]: ...
    def kept(self) -> int: ...
    def find_matches(
        self, local_hashes: Sequence[int], /
    ) -> tuple[dict[Holder, int], dict[Holder, int], dict[Holder, int]]:
        """For each tier; the same dict where a tier adds nothing to the one before it."""

    def shared_blocks(self, local_hashes: Sequence[int], tier: int, /) -> int:
        """How many from the first on somebody has in a tier."""

    def picture(self, holder: Holder, /) -> list[tuple[list[int], list[int], int | None, int]]:
        """All blocks of a holder, parents before children: ids, local hashes, the id before them, a bit for each tier.

        No bits: the holder does not have these, but some behind them; their ids are made up.
        """

    def __len__(self) -> int: ...

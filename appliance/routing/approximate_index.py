"""Which worker probably holds which prefix, when workers do not say: what was placed there lately.

A thin layer over `PrefixIndex`: blocks are stored when a prompt is placed, under their sequence hashes, and removed
when they have not been used for the time to live.
"""

from collections import deque
from collections.abc import Sequence

from appliance.core.identity import WorkerId
from appliance.routing.block_hash import LocalHash, SequenceHash
from appliance.routing.index_events import Holder
from appliance.routing.overlap import Overlaps
from appliance.routing.prefix_index import new_index

MAX_BLOCKS = 1 << 20
KEEP = 0.8


class ApproximateIndex:
    """Guessed blocks of all slots of one model. Times come from the caller and never go back."""

    def __init__(self, ttl_s: float, max_blocks: int = MAX_BLOCKS) -> None:
        """More than `max_blocks` blocks are cut down to four fifths of that, the longest unused first."""
        self.ttl_s = ttl_s
        self._max_blocks = max_blocks
        self.index = new_index()
        self._uses: deque[tuple[float, int, Holder, Sequence[SequenceHash]]] = deque()
        """Placements in the order of time: expiry, number, and the blocks that were used."""
        self._last_use: dict[Holder, dict[SequenceHash, int]] = {}
        """Number of the placement that used a block last."""
        self._number = 0
        self._count = 0

    def __len__(self) -> int:
        """Blocks, those of two slots counted twice."""
        return self._count

    def find_matches(self, local_hashes: Sequence[LocalHash], now: float) -> Overlaps:
        """How many blocks from the first on each slot has, all in device memory."""
        self._expire(now)
        return self.index.find_matches(local_hashes)

    def record(
        self, holder: Holder, local_hashes: Sequence[LocalHash], sequence: Sequence[SequenceHash], now: float
    ) -> None:
        """A prompt of these blocks goes to a slot; the time of all of them begins anew."""
        if not sequence or self.ttl_s <= 0:
            return
        self._expire(now)
        self._number += 1
        last_use = self._last_use.setdefault(holder, {})
        # Blocks leave from the end of a prompt on, so those that are there are the first ones.
        had = len(last_use)
        last_use.update(dict.fromkeys(sequence, self._number))
        added = len(last_use) - had
        if added:
            known = len(sequence) - added
            parent = sequence[known - 1] if known else None
            self.index.store(holder, sequence[known:], local_hashes[known:], parent)
            self._count += added
        self._uses.append((now + self.ttl_s, self._number, holder, sequence))
        if self._count > self._max_blocks:
            self._prune(int(self._max_blocks * KEEP))

    def forget_worker(self, worker: WorkerId) -> None:
        """A worker has left, or has cleared its cache."""
        for holder in [one for one in self._last_use if one.worker == worker]:
            self._count -= len(self._last_use.pop(holder))
        self.index.clear(worker)

    def _expire(self, now: float) -> None:
        while self._uses and self._uses[0][0] <= now:
            _, number, holder, sequence = self._uses.popleft()
            self._drop(number, holder, sequence, len(sequence))

    def _prune(self, target: int) -> None:
        while self._count > target:
            expiry, number, holder, sequence = self._uses.popleft()
            unused = self._drop(number, holder, sequence, self._count - target)
            if unused:
                self._uses.appendleft((expiry, number, holder, unused))

    def _drop(
        self, number: int, holder: Holder, sequence: Sequence[SequenceHash], limit: int
    ) -> Sequence[SequenceHash]:
        """Remove up to `limit` blocks that nobody used later, deepest first; what is left of the sequence."""
        last_use = self._last_use.get(holder)
        if last_use is None:
            return ()
        gone: list[int] = []
        end = len(sequence)
        while end and len(gone) < limit:
            end -= 1
            if last_use.get(sequence[end]) == number:
                del last_use[sequence[end]]
                gone.append(sequence[end])
        if gone:
            self.index.remove(holder, gone)
            self._count -= len(gone)
        if not last_use:
            del self._last_use[holder]
        return sequence[:end]

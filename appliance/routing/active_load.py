"""What one rank has to do for the requests placed on it: prompt tokens still to be computed, and blocks in use.

Pure; times are seconds of whatever clock the caller uses. `DESIGN.md` explains the counting.
"""

import math
from bisect import bisect_left
from collections.abc import Hashable, Sequence

import msgspec

from appliance.core.errors import NotFound


class Booking(msgspec.Struct, eq=False):
    """One request on one rank."""

    isl: int
    tokens: int
    """Prompt tokens to compute; 0 once the first output token is there."""
    hashes: Sequence[int]
    """Sequence hashes of the prompt's complete blocks, where these may be shared."""
    own_blocks: int
    """Blocks that nobody shares: those of the output, and all of them without hashes."""
    blocks: int
    """All blocks, shared or not."""
    expected_output: int | None
    expected_s: float | None
    since: float = 0.0
    """When it became the oldest prefill; only then does its load begin to fall."""
    keep: float = 1.0
    """Weight of the blocks that it alone uses: the share of the output that is still to come."""


class ActiveLoad:
    """The load of one rank. Requests are known by a key that the caller chooses."""

    __slots__ = (
        "_bookings",
        "_in_use",
        "_modelled",
        "_others",
        "_weighted",
        "block_size",
        "decode_blocks",
        "prefill_tokens",
        "starts",
    )

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.prefill_tokens = 0
        """Prompt tokens to compute, of all requests before their first token."""
        self.decode_blocks = 0
        """Distinct blocks in use. To read by `blocks_now` where output blocks are counted."""
        self.starts: dict[int, Sequence[int]] = {}
        """Prompts by their first hash: the hashes of the only one that begins so, none where there are several."""
        self._in_use: set[int] = set()
        """Hashes of those that begin like another one. A hash is never there without those of the blocks before it."""
        self._others: dict[int, int] = {}
        """Requests beside the first one, by the hash of a block that several have. Never without those before it."""
        self._bookings: dict[Hashable, Booking] = {}
        self._modelled: dict[Hashable, Booking] = {}
        """Prefills whose duration is expected, oldest first."""
        self._weighted: dict[Hashable, Booking] = {}
        """Requests whose own blocks count less than one each."""

    def __len__(self) -> int:
        return len(self._bookings)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._bookings

    def book(
        self,
        key: Hashable,
        isl: int,
        cached: int = 0,
        hashes: Sequence[int] = (),
        unshared: int = 0,
        track_prefill: bool = True,
        expected_output: int | None = None,
        expected_s: float | None = None,
        now: float = 0.0,
    ) -> bool:
        """Count a request of `isl` tokens, of which `cached` need not be computed; False when it is counted already.

        `hashes` are the sequence hashes of its complete blocks; `unshared` blocks are counted for it alone instead.
        With `expected_s` the prefill load falls over that time once no older one is left.
        """
        if key in self._bookings:
            return False
        tokens = isl - cached if track_prefill and isl > cached else 0
        booking = Booking(isl, tokens, hashes, unshared, len(hashes) + unshared, expected_output, expected_s)
        self._bookings[key] = booking
        self.prefill_tokens += tokens
        if tokens and expected_s is not None:
            booking.since = now
            self._modelled[key] = booking
        self.decode_blocks += unshared
        if hashes:
            if hashes[0] in self.starts:
                self._share(hashes)
            else:
                self.starts[hashes[0]] = hashes
                self.decode_blocks += len(hashes)
        return True

    def complete_prefill(self, key: Hashable, now: float = 0.0) -> None:
        """The request's first token is there. Saying so twice changes nothing. Raises `NotFound` for an unknown one."""
        booking = self._bookings.get(key)
        if booking is None:
            raise NotFound(f"request {key} not found")
        if booking.tokens:
            self.prefill_tokens -= booking.tokens
            booking.tokens = 0
            if self._modelled:
                self._end_modelled(key, now)

    def free(self, key: Hashable, now: float = 0.0) -> None:
        """The request has ended, with or without a first token. An unknown one changes nothing."""
        booking = self._bookings.pop(key, None)
        if booking is None:
            return
        if booking.tokens:
            self.prefill_tokens -= booking.tokens
            booking.tokens = 0
            if self._modelled:
                self._end_modelled(key, now)
        hashes = booking.hashes
        self.decode_blocks -= booking.own_blocks
        if hashes:
            if self.starts[hashes[0]]:
                del self.starts[hashes[0]]
                self.decode_blocks -= len(hashes)
            else:
                self._unshare(hashes)
        if self._weighted:
            self._weighted.pop(key, None)

    def grow(self, key: Hashable, generated: int) -> None:
        """The request has this many output tokens: count the blocks they fill. An unknown request changes nothing.

        A request whose output length is expected needs its own blocks the less, the nearer that is.
        """
        booking = self._bookings.get(key)
        if booking is None:
            return
        wanted = -(-(booking.isl + generated) // self.block_size)
        if wanted <= booking.blocks:
            return
        added = wanted - booking.blocks
        booking.blocks = wanted
        booking.own_blocks += added
        self.decode_blocks += added
        if booking.expected_output is not None:
            booking.keep = max(0.0, 1 - generated / max(booking.expected_output, 1))
            self._weighted[key] = booking

    def fade(self, key: Hashable, keep: float) -> None:
        """The blocks that only this request uses count by `keep`, from 0 to 1. An unknown request changes nothing."""
        booking = self._bookings.get(key)
        if booking is not None:
            booking.keep = keep
            self._weighted[key] = booking

    def blocks_now(self) -> int:
        """Blocks in use, those of requests about to end counted by what is left of them, rounded."""
        if not self._weighted:
            return self.decode_blocks
        off = sum((1 - one.keep) * (one.own_blocks + self._unique(one.hashes)) for one in self._weighted.values())
        return int(self.decode_blocks - off + 0.5)

    def prefill_at(self, now: float) -> int:
        """Prompt tokens to compute, the oldest request's less what should be done by now."""
        if not self._modelled:
            return self.prefill_tokens
        oldest = next(iter(self._modelled.values()))
        assert oldest.expected_s is not None
        done = (now - oldest.since) / oldest.expected_s if oldest.expected_s > 0 else 1.0
        left = math.ceil(oldest.tokens * (1 - min(1.0, max(0.0, done))))
        return self.prefill_tokens - oldest.tokens + left

    def shared_blocks(self, hashes: Sequence[int]) -> int:
        """How many blocks of a prompt running requests have already."""
        alone = self.starts.get(hashes[0]) if hashes else None
        if alone is None:
            return 0
        # Those in use are the first ones: nobody has a block without the blocks before it.
        if alone:
            common = range(min(len(alone), len(hashes)))
            return bisect_left(common, True, lo=1, key=lambda number: alone[number] != hashes[number])
        in_use = self._in_use
        return bisect_left(hashes, True, lo=1, key=lambda name: name not in in_use)

    def _share(self, hashes: Sequence[int]) -> None:
        """One more request has a prompt that begins like another one's."""
        in_use, others = self._in_use, self._others
        in_use.update(self.starts[hashes[0]])
        self.starts[hashes[0]] = ()
        shared, before = self.shared_blocks(hashes), len(in_use)
        for name in hashes[:shared]:
            others[name] = others.get(name, 0) + 1
        in_use.update(hashes[shared:])
        self.decode_blocks += len(in_use) - before

    def _unshare(self, hashes: Sequence[int]) -> None:
        """One request less has a prompt that begins like another one's, or did so once."""
        in_use, others = self._in_use, self._others
        shared, before = 0, len(in_use)
        for name in hashes:
            count = others.get(name)
            if count is None:
                break
            if count == 1:
                del others[name]
            else:
                others[name] = count - 1
            shared += 1
        in_use.difference_update(hashes[shared:])
        self.decode_blocks += len(in_use) - before
        if hashes[0] not in in_use:
            del self.starts[hashes[0]]

    def _unique(self, hashes: Sequence[int]) -> int:
        """Blocks at the end of a counted prompt that only one request has."""
        others = self._others
        return len(hashes) - bisect_left(hashes, True, key=lambda name: name not in others)

    def _end_modelled(self, key: Hashable, now: float) -> None:
        """A prefill has ended, whose duration may have been expected: the next one begins."""
        was_oldest = next(iter(self._modelled)) == key
        self._modelled.pop(key, None)
        if was_oldest and self._modelled:
            next(iter(self._modelled.values())).since = now

"""Which stream runs on which slot of the engine: pure bookkeeping, no waiting.

A slot is one sequence of the engine's KV cache. It keeps the tokens of its last stream, and a new stream that begins
with the same tokens need not compute them again. Slots share nothing, so the choice of slot decides what is reused.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.core.errors import InternalError


@dataclass(frozen=True)
class Grant:
    """A slot given to a waiting stream."""

    key: int
    slot: int


@dataclass
class _Slot:
    content: list[int] = field(default_factory=list)
    holder: int | None = None
    released_at: int = 0


class SlotTable:
    """Gives each slot to one stream at a time: the best free slot at once, else first come, first served."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._waiting: deque[tuple[int, Sequence[int]]] = deque()
        self._clock = 0

    @property
    def running(self) -> int:
        """Slots that are held."""
        return sum(slot.holder is not None for slot in self._slots)

    @property
    def waiting(self) -> int:
        """Streams without a slot."""
        return len(self._waiting)

    def content(self, slot: int) -> Sequence[int]:
        """Tokens whose keys and values a slot held when it was last released."""
        return self._slots[slot].content

    def request(self, key: int, prompt: Sequence[int]) -> int | None:
        """The slot for a stream, or None: it waits until `release` or `withdraw` grants it one."""
        self._waiting.append((key, prompt))
        granted = self._serve()
        return granted[0].slot if granted else None

    def release(self, key: int, slot: int, content: Sequence[int], ran_on: int | None = None) -> list[Grant]:
        """Take a slot back with the tokens it now holds; gives the grants that this allows.

        `ran_on` is the slot that the engine says it used. Should it differ, neither slot's content is known any more.
        """
        held = self._slots[slot]
        if held.holder != key:
            raise InternalError(f"cannot release slot {slot}: it is not held by stream {key}")
        held.holder = None
        held.content = list(content)
        self._clock += 1
        held.released_at = self._clock
        if ran_on is not None and ran_on != slot:
            self._forget(slot)
            self._forget(ran_on)
        return self._serve()

    def withdraw(self, key: int) -> None:
        """Drop a waiting stream; nothing happens when it does not wait."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != key)

    def _serve(self) -> list[Grant]:
        grants = []
        while self._waiting and (slot := self._best_free(self._waiting[0][1])) is not None:
            key, _ = self._waiting.popleft()
            self._slots[slot].holder = key
            grants.append(Grant(key, slot))
        return grants

    def _best_free(self, prompt: Sequence[int]) -> int | None:
        free = [index for index, slot in enumerate(self._slots) if slot.holder is None]
        if not free:
            return None
        # Longest common prefix first; among equals the slot whose content is oldest, as it is least likely asked again.
        return max(free, key=lambda i: (common_prefix(self._slots[i].content, prompt), -self._slots[i].released_at))

    def _forget(self, slot: int) -> None:
        if 0 <= slot < len(self._slots):
            self._slots[slot].content = []


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    limit = min(len(one), len(other))
    for index in range(limit):
        if one[index] != other[index]:
            return index
    return limit

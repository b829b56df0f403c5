"""Where a subscriber is in what one publisher has sent, and what a newly arrived number means. Pure."""

import math
from enum import Enum, auto


class Verdict(Enum):
    """What to do with a live batch."""

    NEXT = auto()
    """Apply it."""
    STALE = auto()
    """Drop it: a replay has brought it already."""
    GAP = auto()
    """Batches before it are missing."""
    RESTARTED = auto()
    """The publisher counts anew: what it said before is void."""


class SequenceCursor:
    """The position in one publisher's stream. Sequence numbers begin at 0."""

    def __init__(self) -> None:
        self.expected = 0
        """Number of the batch to be applied next."""
        self.timestamp = -math.inf
        """Publisher's clock in the batch applied last; tells a batch from one of the same number after a restart."""
        self._live = -1

    @property
    def fresh(self) -> bool:
        """Nothing has been applied since the beginning or the last `reset`."""
        return self.expected == 0

    def judge(self, sequence: int, timestamp: float) -> Verdict:
        """What a live batch is: live numbers only grow, and what a replay overtook is older than what it brought."""
        before, self._live = self._live, sequence
        if sequence <= before:
            return Verdict.RESTARTED
        if sequence < self.expected:
            return Verdict.RESTARTED if timestamp > self.timestamp else Verdict.STALE
        return Verdict.NEXT if sequence == self.expected else Verdict.GAP

    def advance(self, sequence: int, timestamp: float) -> None:
        """This batch has been applied, or is lost for good."""
        self.expected = sequence + 1
        self.timestamp = timestamp

    def reset(self) -> None:
        """Begin anew: the publisher has."""
        self.expected = 0
        self.timestamp = -math.inf
        self._live = -1

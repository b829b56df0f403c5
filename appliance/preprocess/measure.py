"""Where the times go that parts of the preparation take; there is no clock in here."""

from typing import Literal, Protocol

Part = Literal["template", "tokenize"]


class Measure(Protocol):
    """Learns how long the parts of the work take; clocks are its business."""

    def now(self) -> float:
        """Seconds on its clock."""
        ...

    def observe(self, part: Part, seconds: float) -> None:
        """One part was done, without an error, in so long."""
        ...


class Unmeasured:
    """Nobody wants to know how long a part takes."""

    def now(self) -> float:
        """No time passes."""
        return 0.0

    def observe(self, part: Part, seconds: float) -> None:
        """Nothing is kept."""

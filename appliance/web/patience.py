"""How long a client may take to send what is now expected of it. No clock: the connection brings the time."""

from math import inf

from appliance.web.limits import HttpLimits
from appliance.web.parser import Phase, RequestParser

_IDLE, _HEAD, _BODY = Phase  # members of an enum are found slowly


class Patience:
    """The deadline of one connection's reads. Each idle wait has its own, a head has one, a body's moves on with it."""

    __slots__ = ("_limits", "_waits_for", "deadline")

    def __init__(self, limits: HttpLimits) -> None:
        self.deadline = inf
        """On trio's clock; infinite while nothing is expected of the client."""
        self._limits = limits
        self._waits_for = _IDLE

    @property
    def idle(self) -> bool:
        """The last wait was for a new request."""
        return self._waits_for is _IDLE

    def wait(self, parser: RequestParser, now: float, idle_s: float) -> None:
        """A wait begins, for more of what the parser has part of, or for a new request."""
        phase, limits = parser.phase, self._limits
        if phase is _IDLE:
            self.deadline = now + idle_s
        elif phase is not self._waits_for:
            self.deadline = now + (limits.head_s if phase is _HEAD else limits.body_s)
        elif phase is _BODY:
            earned = parser.take_body_progress() / limits.body_bytes_per_s
            self.deadline = min(self.deadline + earned, now + limits.body_s)
        self._waits_for = phase

    def rest(self) -> None:
        """The client is being answered."""
        self.deadline = inf
        self._waits_for = _IDLE

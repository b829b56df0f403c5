"""Whether a serving process still does its work: judged by what it answers and by what it gets done. Pure.

A process can live without answering (stopped, stuck in a library), and answer without getting anywhere (its engine
hangs). Both are seen here, neither by its exit.
"""

from dataclasses import dataclass

import msgspec

from appliance.core.settings import SupervisionSettings


class LifeSign(msgspec.Struct, frozen=True):
    """What a process answers when it is asked how it is."""

    busy: bool
    """It has streams to work on."""
    progress: int
    """Anything that changes whenever it gets on with one of them."""
    fault: str = ""
    """What it found wrong with itself."""


@dataclass
class Liveness:
    """The watch over one process, from the moment when it began to serve. Times are of one monotonic clock."""

    heard_at: float
    moved_at: float
    progress: int = 0
    fault: str = ""

    @classmethod
    def begin(cls, now: float) -> "Liveness":
        """A process that has just said that it serves."""
        return cls(now, now)

    def on_sign(self, sign: LifeSign, now: float) -> None:
        """It answered. An idle process has nothing to get on with."""
        self.heard_at = now
        if not sign.busy or sign.progress != self.progress:
            self.moved_at = now
        self.progress, self.fault = sign.progress, sign.fault

    def complaint(self, settings: SupervisionSettings, now: float) -> str | None:
        """Why the process should be replaced; None when it is fine, or a limit is off."""
        if self.fault:
            return self.fault
        if settings.silence_s and now - self.heard_at >= settings.silence_s:
            return f"it gave no sign of life for {settings.silence_s:g} s"
        if settings.stall_s and now - self.moved_at >= settings.stall_s and self.heard_at > self.moved_at:
            return f"it had streams and got nowhere with them for {settings.stall_s:g} s"
        return None

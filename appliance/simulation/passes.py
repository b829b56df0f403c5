"""What one pass of the engine did."""

from dataclasses import dataclass, field

from appliance.core.kv_events import KvEvent
from appliance.simulation.sequence import RunningSequence


@dataclass(slots=True)
class PassResult:
    """Outcome of one pass. Whoever drives the engine lets `duration_ms` go by and then hands out the tokens."""

    duration_ms: float = 0.0
    emitted: list[RunningSequence] = field(default_factory=list)
    """Sequences that got one token each."""
    finished: list[RunningSequence] = field(default_factory=list)
    """Those of them that have all their tokens now."""
    admitted: list[tuple[RunningSequence, int]] = field(default_factory=list)
    """Sequences that began to run, also after a preemption, with the prompt tokens that were found in the cache."""
    preempted: list[RunningSequence] = field(default_factory=list)
    """Sequences that lost their blocks and wait again."""
    prefill_requests: int = 0
    prefill_tokens: int = 0
    """Prompt tokens computed in this pass."""
    decode_requests: int = 0
    """Sequences that were ready for a token."""
    decode_context_tokens: int = 0
    """Length of all of them together, before the pass."""
    events: list[KvEvent] = field(default_factory=list)
    wake_ms: float | None = None
    """Nothing could be done; the next pass makes sense at this time. None: when something changes."""

    @property
    def did_something(self) -> bool:
        """False when another pass right away would do nothing either."""
        return bool(self.emitted or self.preempted or self.admitted or self.prefill_tokens)


@dataclass(frozen=True)
class EngineLoad:
    """Load of one rank at a moment."""

    running: int
    waiting: int
    active_blocks: int
    total_blocks: int
    queued_prompt_tokens: int

    @property
    def usage(self) -> float:
        """Share of the cache that running requests hold."""
        return self.active_blocks / self.total_blocks

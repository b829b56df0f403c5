"""How far a front end has followed one rank's cache, and what it must ask for. Pure: no clock, no I/O.

Messages may be lost, doubled or out of order. Whatever comes, applying what `on_events` and `on_reply` give, in that
order, ends in what the rank holds, once its questions are answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply, ReplyForm


class Phase(Enum):
    """Where a rank's cursor stands."""

    LOST = "lost"
    """What the rank holds is not known: everything must be asked for."""
    BEHIND = "behind"
    """Some events were missed: those after the last applied one must be asked for."""
    LIVE = "live"
    """Nothing is known to be missing."""
    GIVEN_UP = "given up"
    """The worker did not answer; the next event is a reason to ask again for everything."""


@dataclass(frozen=True)
class Question:
    """What to ask the worker. Replies to any but the newest question are ignored."""

    number: int
    start_id: int | None


@dataclass(frozen=True)
class Change:
    """What to do to the index."""

    forget: bool = False
    """First drop all blocks of the rank."""
    events: Sequence[KvEvent] = field(default_factory=list)


NOTHING = Change()


class RankCursor:
    """Decides which events of one rank to apply. A new one is lost: the first contact asks for everything."""

    def __init__(self) -> None:
        self.phase = Phase.LOST
        self.applied_id = 0
        """Id of the last event in the index."""
        self.newest_id = 0
        """Highest id seen in any live message."""
        self.stale = 0
        """Events that came again, or too late."""
        self._question = 0
        self._restoring = False

    @property
    def wants_answer(self) -> bool:
        """Whether there is something to ask for."""
        return self.phase in (Phase.LOST, Phase.BEHIND)

    def ask(self) -> Question:
        """The question to send now; earlier ones are void."""
        self._question += 1
        self._restoring = False
        return Question(self._question, self.applied_id + 1 if self.phase is Phase.BEHIND else None)

    def on_events(self, first_id: int, events: Sequence[KvEvent]) -> Change:
        """Take live events, of which the first has this id."""
        end = first_id + len(events) - 1
        self.newest_id = max(self.newest_id, end)
        if (barrier := _last_cleared(events)) is not None and first_id + barrier > self.applied_id:
            return self._start_from(first_id + barrier, events[barrier:])
        match self.phase:
            case Phase.LIVE:
                if first_id <= self.applied_id + 1:
                    return self._advance(first_id, events)
                self.phase = Phase.BEHIND
            case Phase.GIVEN_UP:
                self.phase = Phase.LOST
        return NOTHING  # the answer to the question will have them

    def on_reply(self, question: Question, reply: KvReply) -> Change:
        """Take a piece of the answer to a question."""
        if question.number != self._question or not self.wants_answer:
            return NOTHING
        match reply.form:
            case ReplyForm.TREE:
                return self._restore(reply)
            case ReplyForm.EVENTS if question.start_id is not None and reply.first_id <= self.applied_id + 1:
                change = self._advance(reply.first_id, reply.events)
                if reply.last:
                    self._catch_up()
                return change
            case ReplyForm.TOO_NEW if reply.newest_id == self.applied_id:
                self.newest_id = self.applied_id  # a live message had an id that never was
                self._catch_up()
            case _:
                self.phase = Phase.LOST  # the worker counts anew, or does not make sense
        return NOTHING

    def give_up(self) -> Change:
        """No answer can be had: nothing is known of the rank."""
        self._void()
        self.phase = Phase.GIVEN_UP
        return Change(forget=True)

    def _restore(self, reply: KvReply) -> Change:
        forget, self._restoring = not self._restoring, True
        self.phase = Phase.LOST  # what was there is gone, so a cut answer is worth nothing
        if reply.last:
            self.applied_id = reply.newest_id
            self._catch_up()
        return Change(forget, reply.events)

    def _start_from(self, cleared_id: int, events: Sequence[KvEvent]) -> Change:
        """Everything before a clearing does not matter any more, nor does an answer that is under way."""
        self._void()
        self.applied_id = cleared_id + len(events) - 1
        self._catch_up()
        return Change(forget=True, events=events[1:])

    def _advance(self, first_id: int, events: Sequence[KvEvent]) -> Change:
        known = self.applied_id + 1 - first_id
        self.stale += min(known, len(events))
        if known >= len(events):
            return NOTHING
        self.applied_id = first_id + len(events) - 1
        fresh = events[known:] if known else events
        barrier = _last_cleared(fresh)
        return Change(events=fresh) if barrier is None else Change(forget=True, events=fresh[barrier + 1 :])

    def _catch_up(self) -> None:
        self.phase = Phase.LIVE if self.newest_id <= self.applied_id else Phase.BEHIND

    def _void(self) -> None:
        self._question += 1


def _last_cleared(events: Sequence[KvEvent]) -> int | None:
    """Position of the last clearing among some events."""
    return next((at for at in range(len(events) - 1, -1, -1) if type(events[at]) is ClearedBlocks), None)

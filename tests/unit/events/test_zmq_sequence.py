"""What the number of a live batch means."""

from appliance.events.zmq_sequence import SequenceCursor, Verdict


def cursor_at(sequence: int, timestamp: float = 1.0) -> SequenceCursor:
    """A cursor that has applied everything up to a batch."""
    cursor = SequenceCursor()
    cursor.judge(sequence, timestamp)
    cursor.advance(sequence, timestamp)
    return cursor


def test_the_first_number_is_zero() -> None:
    assert SequenceCursor().fresh
    assert SequenceCursor().judge(0, 1.0) is Verdict.NEXT
    assert SequenceCursor().judge(3, 1.0) is Verdict.GAP


def test_numbers_go_on() -> None:
    cursor = cursor_at(4)
    assert not cursor.fresh
    assert cursor.judge(5, 2.0) is Verdict.NEXT
    cursor.advance(5, 2.0)
    assert cursor.judge(7, 2.0) is Verdict.GAP


def test_a_live_number_never_comes_twice() -> None:
    assert cursor_at(4).judge(4, 1.0) is Verdict.RESTARTED
    assert cursor_at(4).judge(0, 1.0) is Verdict.RESTARTED


def test_what_a_replay_overtook_is_stale_unless_it_is_younger() -> None:
    cursor = cursor_at(4)
    cursor.advance(9, 5.0)
    assert cursor.judge(7, 4.0) is Verdict.STALE
    assert cursor.judge(8, 6.0) is Verdict.RESTARTED


def test_after_a_reset_any_number_may_come() -> None:
    cursor = cursor_at(4)
    cursor.reset()
    assert cursor.fresh
    assert cursor.judge(0, 0.0) is Verdict.NEXT

"""What a cursor applies, drops and asks for; `tests/property` mixes it all."""

from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply, RemovedBlocks, ReplyForm, StoredBlocks
from appliance.events.rank_cursor import NOTHING, Change, Phase, Question, RankCursor


def stored(number: int) -> KvEvent:
    return StoredBlocks([number], [number])


def live_at(applied_id: int) -> RankCursor:
    cursor = RankCursor()
    change = cursor.on_reply(cursor.ask(), KvReply(ReplyForm.TREE, applied_id, events=[stored(0)]))
    assert change == Change(forget=True, events=[stored(0)])
    assert cursor.phase is Phase.LIVE
    return cursor


def test_the_first_contact_asks_for_everything() -> None:
    cursor = RankCursor()
    assert cursor.on_events(5, [stored(5)]) == NOTHING
    assert cursor.ask() == Question(1, None)


def test_what_is_next_is_applied_and_what_was_is_dropped() -> None:
    cursor = live_at(4)
    assert cursor.on_events(5, [stored(5), stored(6)]) == Change(events=[stored(5), stored(6)])
    assert cursor.on_events(5, [stored(5), stored(6)]) == NOTHING
    assert cursor.on_events(6, [stored(6), stored(7)]) == Change(events=[stored(7)])
    assert (cursor.applied_id, cursor.stale) == (7, 3)


def test_a_gap_asks_for_what_is_missing_and_live_events_are_only_remembered() -> None:
    cursor = live_at(4)
    assert cursor.on_events(7, [stored(7)]) == NOTHING
    question = cursor.ask()
    assert question.start_id == 5
    assert cursor.on_events(8, [stored(8), stored(9)]) == NOTHING
    first = KvReply(ReplyForm.EVENTS, 7, 5, [stored(5)], last=False)
    assert cursor.on_reply(question, first) == Change(events=[stored(5)])
    assert cursor.on_reply(question, KvReply(ReplyForm.EVENTS, 7, 6, [stored(6), stored(7)])).events
    assert (cursor.phase, cursor.ask().start_id) == (Phase.BEHIND, 8)


def test_answers_to_earlier_questions_are_ignored() -> None:
    cursor = RankCursor()
    early, late = cursor.ask(), cursor.ask()
    assert cursor.on_reply(early, KvReply(ReplyForm.TREE, 3, events=[stored(1)])) == NOTHING
    assert cursor.on_reply(late, KvReply(ReplyForm.TREE, 3, events=[stored(1)])).forget


def test_clearing_bypasses_gaps_and_ends_a_recovery() -> None:
    cursor = live_at(4)
    cursor.on_events(7, [stored(7)])
    question = cursor.ask()
    assert cursor.on_events(9, [stored(9), ClearedBlocks(), stored(11)]) == Change(forget=True, events=[stored(11)])
    assert (cursor.phase, cursor.applied_id) == (Phase.LIVE, 11)
    assert cursor.on_reply(question, KvReply(ReplyForm.EVENTS, 9, 5, [stored(5)])) == NOTHING


def test_an_old_clearing_clears_nothing() -> None:
    cursor = live_at(4)
    assert cursor.on_events(3, [ClearedBlocks()]) == NOTHING
    assert (cursor.phase, cursor.applied_id) == (Phase.LIVE, 4)


def test_a_clearing_among_missed_events_takes_what_came_before_it() -> None:
    cursor = live_at(4)
    cursor.on_events(8, [stored(8)])
    reply = KvReply(ReplyForm.EVENTS, 8, 5, [stored(5), ClearedBlocks(), RemovedBlocks([1]), stored(8)])
    assert cursor.on_reply(cursor.ask(), reply) == Change(forget=True, events=[RemovedBlocks([1]), stored(8)])
    assert cursor.phase is Phase.LIVE


def test_an_id_that_never_was_is_forgotten() -> None:
    cursor = live_at(4)
    cursor.on_events(1000, [stored(1)])
    assert cursor.on_reply(cursor.ask(), KvReply(ReplyForm.TOO_NEW, 4)) == NOTHING
    assert cursor.on_events(5, [stored(5)]) == Change(events=[stored(5)])


def test_a_worker_that_counts_anew_is_asked_for_everything() -> None:
    for reply in (KvReply(ReplyForm.TOO_NEW, 2), KvReply(ReplyForm.INVALID_RANGE, 2), KvReply(ReplyForm.EVENTS, 9, 8)):
        cursor = live_at(4)
        cursor.on_events(7, [stored(7)])
        cursor.on_reply(cursor.ask(), reply)
        assert cursor.ask().start_id is None


def test_a_tree_that_breaks_off_is_asked_for_again_and_replaces_all() -> None:
    cursor = live_at(4)
    cursor.on_events(7, [stored(7)])
    cursor.on_reply(cursor.ask(), KvReply(ReplyForm.TREE, 8, events=[stored(1)], last=False))
    again = cursor.ask()
    assert again.start_id is None
    assert cursor.on_reply(again, KvReply(ReplyForm.TREE, 8)).forget


def test_a_worker_that_was_given_up_is_asked_again_at_its_next_word() -> None:
    cursor = live_at(4)
    assert cursor.give_up() == Change(forget=True)
    assert not cursor.wants_answer
    cursor.on_events(5, [stored(5)])
    assert cursor.wants_answer
    assert cursor.ask().start_id is None

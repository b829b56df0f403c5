"""What waits for a front end that is behind."""

from appliance.transport.relay_queue import RelayQueue


def test_frames_come_out_in_order_as_one_piece() -> None:
    queue = RelayQueue(100)
    assert not queue
    assert queue.add("a", b"1")
    assert queue.add("b", b"2")
    assert queue
    assert queue.take() == b"12"
    assert not queue
    assert queue.take() == b""


def test_the_oldest_go_when_there_are_too_many() -> None:
    queue = RelayQueue(10)
    assert queue.add("a", b"1" * 6)
    assert queue.add("a", b"2" * 4)
    assert not queue.add("b", b"3" * 5)
    assert (queue.take(), queue.lost) == (b"2222" + b"33333", 1)
    assert queue.add("a", b"4" * 10), "what was taken counts no more"


def test_word_of_an_end_stands_for_all_reports_and_is_never_lost() -> None:
    queue = RelayQueue(10)
    queue.add("a", b"1" * 5)
    queue.add("b", b"2" * 5)
    queue.add_gone("a", b"gone")
    assert queue.add("b", b"3" * 5), "the reports of the one that is gone count no more"
    assert not queue.add("b", b"4" * 10)
    assert queue.take() == b"gone" + b"4" * 10

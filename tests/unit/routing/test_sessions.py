"""Sessions: idle time, running requests, loss."""

from appliance.core.identity import WorkerId
from appliance.routing.index_events import Holder
from appliance.routing.sessions import Sessions

A, B = Holder(WorkerId("a")), Holder(WorkerId("b"), 1)


def test_a_session_stays_while_it_is_used() -> None:
    sessions = Sessions()
    assert sessions.start("s", A, 10.0, 0.0)
    sessions.end("s", A, 1.0)
    for now in (9.0, 18.0, 27.0):  # each use begins the idle time anew
        assert sessions.find("s", now) == A
        assert sessions.start("s", A, 0.0, now)
        sessions.end("s", A, now)
    assert sessions.find("s", 36.9) == A
    assert sessions.find("s", 37.0) is None


def test_a_running_request_keeps_it() -> None:
    sessions = Sessions()
    sessions.start("s", A, 10.0, 0.0)
    sessions.start("s", A, 10.0, 0.0)
    sessions.end("s", A, 5.0)
    assert sessions.find("s", 1000.0) == A
    sessions.end("s", A, 1000.0)
    assert sessions.find("s", 1010.0) is None


def test_without_a_time_none_begins() -> None:
    sessions = Sessions()
    assert not sessions.start("s", A, 0.0, 0.0)
    assert sessions.find("s", 0.0) is None
    assert len(sessions) == 0


def test_closing_waits_for_the_last_request() -> None:
    sessions = Sessions()
    sessions.start("s", A, 10.0, 0.0)
    sessions.close("s")
    assert sessions.find("s", 1.0) == A
    sessions.end("s", A, 1.0)
    assert sessions.find("s", 1.0) is None
    sessions.close("s")
    sessions.start("s", A, 10.0, 2.0)
    sessions.end("s", A, 2.0)
    sessions.close("s")
    assert sessions.find("s", 2.0) is None


def test_a_session_moves_and_the_old_request_does_not_end_it() -> None:
    sessions = Sessions()
    sessions.start("s", A, 10.0, 0.0)
    sessions.start("s", B, 10.0, 1.0)
    sessions.end("s", A, 2.0)
    assert sessions.find("s", 100.0) == B  # its request still runs
    sessions.end("s", B, 100.0)
    sessions.end("s", B, 105.0)  # once too often
    assert sessions.find("s", 110.0) is None


def test_sessions_of_a_lost_worker_are_gone() -> None:
    sessions = Sessions()
    sessions.start("s", A, 10.0, 0.0)
    sessions.start("t", B, 10.0, 0.0)
    sessions.forget_worker(WorkerId("a"))
    assert (sessions.find("s", 0.0), sessions.find("t", 0.0)) == (None, B)
    sessions.forget("t")
    assert len(sessions) == 0


def test_forgotten_sessions_do_not_pile_up() -> None:
    sessions = Sessions()
    for number in range(1000):
        sessions.start(str(number), A, 1.0, float(number))
        sessions.end(str(number), A, float(number))
    assert len(sessions) < 50

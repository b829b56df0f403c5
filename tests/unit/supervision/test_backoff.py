"""When a worker is started again and when it is given up."""

import pytest

from appliance.core.settings import SupervisionSettings
from appliance.supervision.backoff import Backoff, GiveUp, Restart, Verdict


def make(jitter: float = 0.0, **changes: float) -> Backoff:
    return Backoff(SupervisionSettings(**changes), lambda: jitter)  # type: ignore[arg-type]  # counts are passed as ints


def wait_of(verdict: Verdict) -> float:
    assert isinstance(verdict, Restart)
    return verdict.after_s


def test_an_exit_after_ready_restarts_at_once() -> None:
    backoff = make()
    assert wait_of(backoff.on_exit(now=0, ready_s=0.1)) == 0


def test_waits_grow_to_the_cap_with_jitter() -> None:
    backoff = make(jitter=1.0, max_early_exits=100)
    waits = [wait_of(backoff.on_exit(now=1000.0 * step, ready_s=None)) for step in range(9)]
    assert waits == pytest.approx([0.55, 1.1, 2.2, 4.4, 8.8, 17.6, 33, 33, 33])


def test_more_exits_a_minute_than_allowed_are_early_ones() -> None:
    backoff = make()
    waits = [wait_of(backoff.on_exit(now=float(step), ready_s=0.5)) for step in range(12)]
    assert waits == [0.0] * 10 + [0.5, 1.0]


def test_exits_that_are_over_a_minute_old_do_not_count() -> None:
    backoff = make()
    waits = [wait_of(backoff.on_exit(now=7.0 * step, ready_s=1.0)) for step in range(40)]
    assert set(waits) == {0.0}


def test_gives_up_after_enough_early_exits() -> None:
    backoff = make(max_early_exits=3)
    verdicts = [backoff.on_exit(now=100.0 * step, ready_s=None) for step in range(3)]
    assert isinstance(verdicts[1], Restart)
    assert isinstance(verdicts[2], GiveUp)


def test_a_short_ready_time_does_not_reset_but_a_quiet_one_does() -> None:
    backoff = make()
    for step in range(4):
        backoff.on_exit(now=float(step), ready_s=None)
    backoff.on_exit(now=10, ready_s=2.0)
    assert backoff.early_exits == 4
    backoff.on_exit(now=100, ready_s=60.0)
    assert backoff.early_exits == 0
    assert wait_of(backoff.on_exit(now=101, ready_s=None)) == 0.5


def test_a_long_row_does_not_overflow() -> None:
    backoff = make(max_early_exits=10**6)
    for step in range(3000):
        assert wait_of(backoff.on_exit(now=float(step), ready_s=None)) <= 30

"""What reconcile asks for, case by case."""

from appliance.core.instances import ComponentInstance
from appliance.supervision.reconcile import Drain, Present, Start, plan
from appliance.supervision.states import Phase
from tests.helpers.instances import make_instance


def present(
    number: int, index: int = 0, *, spec: str = "v1", phase: Phase = Phase.READY, leaving: bool = False
) -> Present:
    return Present(number=number, instance=make_instance(index, spec=spec), phase=phase, leaving=leaving)


def wanted(count: int, spec: str = "v1") -> list[ComponentInstance]:
    return [make_instance(index, spec=spec) for index in range(count)]


def steps(wishes: list[ComponentInstance], workers: list[Present], *, surge: bool = True) -> list[str]:
    """The effects in short: `+INDEX` starts, `-NUMBER` drains."""
    effects = plan(wishes, workers, may_surge=lambda _: surge)
    return [f"+{e.instance.index}" if isinstance(e, Start) else f"-{e.number}" for e in effects]


def test_nothing_to_do() -> None:
    assert steps([], []) == []
    assert steps(wanted(2), [present(1, 0), present(2, 1, phase=Phase.FAILED)]) == []


def test_scale_up_adds_what_is_missing() -> None:
    assert steps(wanted(3), [present(1, 0)]) == ["+1", "+2"]


def test_scale_down_drains_the_highest_index_first() -> None:
    workers = [present(1, 0), present(2, 1), present(3, 2)]
    assert steps(wanted(1), workers) == ["-3", "-2"]
    assert steps([], [present(1, leaving=True, phase=Phase.DRAINING)]) == []


def test_a_worker_that_comes_back_need_not_wait_for_the_leaving_one() -> None:
    leaving = present(1, leaving=True, phase=Phase.DRAINING)
    assert steps(wanted(1), [leaving]) == ["+0"]
    assert steps(wanted(1), [leaving], surge=False) == []


def test_rolling_change_starts_one_then_drains_one() -> None:
    old = [present(1, 0), present(2, 1)]
    assert steps(wanted(2, "v2"), old) == ["+1"]
    new = present(3, 1, spec="v2", phase=Phase.STARTING)
    assert steps(wanted(2, "v2"), [*old, new]) == []
    new = present(3, 1, spec="v2")
    assert steps(wanted(2, "v2"), [*old, new]) == ["-2"]
    leaving = present(2, 1, leaving=True, phase=Phase.DRAINING)
    assert steps(wanted(2, "v2"), [old[0], leaving, new]) == []
    assert steps(wanted(2, "v2"), [old[0], new]) == ["+0"]


def test_rolling_change_without_room_drains_first_and_one_at_a_time() -> None:
    old = [present(1, 0), present(2, 1)]
    assert steps(wanted(2, "v2"), old, surge=False) == ["-2"]
    leaving = present(2, 1, leaving=True, phase=Phase.DRAINING)
    assert steps(wanted(2, "v2"), [old[0], leaving], surge=False) == []
    assert steps(wanted(2, "v2"), [old[0]], surge=False) == ["+1"]
    starting = present(3, 1, spec="v2", phase=Phase.STARTING)
    assert steps(wanted(2, "v2"), [old[0], starting], surge=False) == []


def test_a_spec_that_fails_takes_no_more_old_workers_away() -> None:
    old = [present(1, 0), present(2, 1)]
    failed = present(3, 1, spec="v2", phase=Phase.FAILED)
    assert steps(wanted(2, "v2"), [*old, failed]) == []
    crashed = present(1, 0, phase=Phase.BACKOFF)
    assert steps(wanted(2, "v2"), [crashed, old[1], failed]) == []
    assert steps(wanted(2, "v3"), [*old, failed]) == ["-3"]
    assert steps(wanted(2, "v1"), [*old, failed]) == ["-3"]


def test_old_workers_that_serve_nobody_are_replaced_at_once() -> None:
    old = [present(1, 0, phase=Phase.STARTING), present(2, 1, phase=Phase.FAILED)]
    assert steps(wanted(2, "v2"), old) == ["-1", "-2", "+0", "+1"]
    assert steps(wanted(2, "v2"), old, surge=False) == ["-1", "-2"]


def test_components_roll_independently() -> None:
    wishes = [make_instance(spec="v2"), make_instance(spec="v2", component="other")]
    workers = [
        Present(number=1, instance=make_instance(), phase=Phase.READY, leaving=False),
        Present(number=2, instance=make_instance(component="other"), phase=Phase.READY, leaving=False),
    ]
    assert plan(wishes, workers, may_surge=lambda _: True) == [Start(wishes[0]), Start(wishes[1])]


def test_drain_says_why() -> None:
    (effect,) = plan([], [present(1)], may_surge=lambda _: True)
    assert effect == Drain(1, "no longer wanted")

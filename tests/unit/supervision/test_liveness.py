"""When a process that lives counts as one that does no work."""

import pytest

from appliance.core.settings import SupervisionSettings
from appliance.supervision.liveness import LifeSign, Liveness

SETTINGS = SupervisionSettings(silence_s=30, stall_s=120)


def after(*signs: tuple[float, bool, int]) -> Liveness:
    """The watch after signs of life at some times."""
    liveness = Liveness.begin(0)
    for at, busy, progress in signs:
        liveness.on_sign(LifeSign(busy=busy, progress=progress), at)
    return liveness


def test_silence_is_counted_from_the_last_answer() -> None:
    assert after((100, False, 0)).complaint(SETTINGS, 129) is None
    assert "no sign of life for 30 s" in (after((100, False, 0)).complaint(SETTINGS, 130) or "")


def test_a_process_that_never_answered_is_silent_from_its_start() -> None:
    assert Liveness.begin(50).complaint(SETTINGS, 79) is None
    assert Liveness.begin(50).complaint(SETTINGS, 80) is not None


def test_busy_without_progress_is_a_stall() -> None:
    stuck = after((10, True, 5), *((10.0 + at, True, 5) for at in range(5, 130, 5)))
    assert stuck.complaint(SETTINGS, 129) is None
    assert "got nowhere" in (stuck.complaint(SETTINGS, 135) or "")


@pytest.mark.parametrize(
    "signs",
    [
        [(at, False, 5) for at in range(0, 300, 5)],
        [(at, True, at) for at in range(0, 300, 5)],
        [(at, at % 60 != 0, 5) for at in range(0, 300, 5)],
    ],
    ids=["idle", "getting on", "idle in between"],
)
def test_idle_and_working_processes_are_left_alone(signs: list[tuple[float, bool, int]]) -> None:
    assert after(*signs).complaint(SETTINGS, 300) is None


def test_a_fault_that_it_found_itself_counts_at_once() -> None:
    liveness = Liveness.begin(0)
    liveness.on_sign(LifeSign(busy=False, progress=0, fault="its canary died"), 1)
    assert liveness.complaint(SETTINGS, 1) == "its canary died"


def test_limits_of_zero_are_off() -> None:
    off = SupervisionSettings(silence_s=0, stall_s=0)
    assert after((1, True, 5), (2, True, 5)).complaint(off, 1e9) is None

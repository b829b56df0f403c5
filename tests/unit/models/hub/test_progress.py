"""The rate and the end of a download, in figures and words."""

import pytest

from appliance.models.hub.progress import Meter, amount, duration


def test_rate_and_end_come_from_what_arrives_now() -> None:
    now = [0.0]
    meter = Meter(1000, lambda: now[0])
    meter.skip(500)
    assert (meter.fraction, meter.rate, meter.left()) == (0.5, None, "")
    for _ in range(10):
        now[0] += 1
        meter.add(10)
    assert meter.rate == pytest.approx(10)
    assert meter.left() == "about 40 s left"


def test_an_old_rate_is_forgotten() -> None:
    now = [0.0]
    meter = Meter(10**6, lambda: now[0])
    meter.add(500_000)
    for _ in range(100):
        now[0] += 1
        meter.add(100)
    assert meter.rate == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (120, "2 min"), (3600, "60 min"), (10000, "2.8 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1500, "1.5 kB"), (2 * 10**6, "2.0 MB"), (42 * 10**8, "4.2 GB")]
)
def test_amounts(count: int, text: str) -> None:
    assert amount(count) == text

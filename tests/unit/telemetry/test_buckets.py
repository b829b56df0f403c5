"""Values by bucket: what is counted where, by both implementations."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.buckets import CountValues, count_in_python, count_values, is_native
from appliance.telemetry.cells import HistogramCell

BOUNDS = (0, 1.5, 3)
NUMBERS = st.lists(st.sampled_from([0, 1, 5, -0.0, 2.5]) | st.integers(-9, 9) | st.floats(-10, 10), max_size=40)


@pytest.fixture(params=["python", "native"])
def count(request: pytest.FixtureRequest) -> CountValues:
    if request.param == "python":
        return count_in_python
    if not is_native():
        pytest.skip("native counting was not built: `make venv` does it, with a C compiler")
    return count_values


def test_a_bound_belongs_to_the_bucket_below_it(count: CountValues) -> None:
    counts = [0, 0, 0, 7]
    assert count(BOUNDS, counts, [-1, 0, 0.5, 1.5, 1.6, 3, 3.1, 10**6]) == pytest.approx(1000008.7)
    assert counts == [2, 2, 2, 9]


def test_no_values_and_no_bounds(count: CountValues) -> None:
    counts = [1, 2, 3, 4]
    assert count(BOUNDS, counts, ()) == 0.0
    assert counts == [1, 2, 3, 4]
    lone = [1]
    assert count((), lone, (5, 6.0)) == 11.0
    assert lone == [3]


@given(NUMBERS, st.sets(st.integers(-9, 9) | st.floats(-9, 9), max_size=8).map(sorted))
def test_both_count_the_same(values: list[float], bounds: list[float]) -> None:
    counts, wanted = ([3] * (len(bounds) + 1) for _ in range(2))
    total = count_values(tuple(bounds), counts, values)
    assert total == pytest.approx(count_in_python(tuple(bounds), wanted, values))
    assert counts == wanted


@given(NUMBERS)
def test_many_values_at_once_count_as_one_by_one(values: list[float]) -> None:
    together, apart = HistogramCell(BOUNDS), HistogramCell(BOUNDS)
    together.observe_all(values)
    for value in values:
        apart.observe(value)
    assert together.counts == apart.counts
    assert together.total == pytest.approx(apart.total)


@pytest.mark.skipif(not is_native(), reason="native counting was not built")
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((BOUNDS, [0, 0, 0, 0], [1, "2"]), TypeError),
        ((BOUNDS, [0, 0, 0, 0], 5), TypeError),
        ((BOUNDS, [0, "0", 0, 0], [1]), TypeError),
        (((0, None, 3), [0, 0, 0, 0], [1]), TypeError),
        ((BOUNDS, [0, 0, 0, 0], [1, 10**400]), OverflowError),
        ((BOUNDS, [0, 0, 0], [1]), ValueError),
        (([1], [0, 0], [1]), TypeError),
        ((BOUNDS, [0, 0, 0, 0]), TypeError),
    ],
)
def test_what_cannot_be_counted_changes_nothing(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    before = list(arguments[1])
    with pytest.raises(error):
        count_values(*arguments)
    assert arguments[1] == before

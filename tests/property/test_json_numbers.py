"""Number grammars against the numbers themselves."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.engines.llamacpp.json_numbers import integers_between, numbers_between

BOUNDS = st.tuples(st.integers(-20_000, 20_000), st.integers(-20_000, 20_000)).map(sorted)


def as_regex(expression: str) -> re.Pattern[str]:
    """Number expressions are made of literals, classes, groups and repetition only: as a regex they mean the same."""
    return re.compile(re.sub(r'"([^"]*)"', lambda match: re.escape(match[1]), expression).replace(" ", ""))


@given(bounds=BOUNDS, value=st.integers(-30_000, 30_000))
@example(bounds=[0, 0], value=0)
@example(bounds=[-1, 1], value=0)
@example(bounds=[99, 100], value=100)
def test_an_integer_is_allowed_exactly_within_its_bounds(bounds: list[int], value: int) -> None:
    low, high = bounds
    allowed = as_regex(integers_between(low, high)).fullmatch(str(value)) is not None
    assert allowed == (low <= value <= high)


@given(bounds=BOUNDS, thousandths=st.integers(-21_000_000, 21_000_000))
@example(bounds=[0, 1], thousandths=500)
@example(bounds=[-1, 0], thousandths=-500)
def test_a_number_is_allowed_exactly_within_its_bounds(bounds: list[int], thousandths: int) -> None:
    low, high = bounds
    sign, whole, rest = "-" * (thousandths < 0), abs(thousandths) // 1000, abs(thousandths) % 1000
    text = f"{sign}{whole}.{rest:03}"
    allowed = as_regex(numbers_between(low, high)).fullmatch(text) is not None
    within = low * 1000 <= thousandths <= high * 1000
    assert allowed <= within
    if thousandths % 1000:
        assert allowed == within

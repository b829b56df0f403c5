"""Set arithmetic of code points behind the character classes."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llamacpp.gbnf import LARGEST_CODE_POINT
from appliance.engines.llamacpp.regex_grammar import complement

POINTS = st.integers(0, LARGEST_CODE_POINT)
RANGES = st.lists(st.tuples(POINTS, POINTS).map(lambda pair: (min(pair), max(pair))), max_size=6)


@given(ranges=RANGES, point=POINTS)
def test_a_point_is_in_the_ranges_or_in_their_complement(ranges: list[tuple[int, int]], point: int) -> None:
    inside = any(low <= point <= high for low, high in ranges)
    outside = any(low <= point <= high for low, high in complement(ranges))
    assert inside != outside

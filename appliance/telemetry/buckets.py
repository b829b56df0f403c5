"""Values of a histogram by bucket: in C where that was built here, else the twin in Python."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol


class CountValues(Protocol):
    """Adds values to the counts of their buckets, and returns their sum.

    The bounds are in rising order; a value that is one of them belongs below it. The last count is of values above all.
    """

    def __call__(self, bounds: tuple[float, ...], counts: list[int], values: Sequence[float], /) -> float: ...


def count_in_python(bounds: tuple[float, ...], counts: list[int], values: Sequence[float], /) -> float:
    """A `CountValues`."""
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return float(sum(values))


def is_native() -> bool:
    """Whether counting is native."""
    return count_values is not count_in_python


def _choose() -> CountValues:
    try:
        from appliance.telemetry.native.buckets import count_values
    except ImportError:  # not built: there was no compiler
        return count_in_python
    return count_values


count_values: CountValues = _choose()

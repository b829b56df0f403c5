from collections.abc import Sequence

def count_values(bounds: tuple[float, ...], counts: list[int], values: Sequence[float], /) -> float:
    """What `appliance.telemetry.buckets.CountValues` says holds here. `TypeError` for values that are no numbers.

    Raises `ValueError` unless there is one count more than bounds. After any error the counts are as they were.
    """

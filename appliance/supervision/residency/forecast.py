"""When a loading model will be ready: by how long it took before, else by its progress, else by its size. Pure."""

BYTES_PER_S = 300e6  # a plain disk; a guess until a model was loaded once
START_S = 2.0  # a worker process with an empty model


def load_time_s(past_s: float | None, size_bytes: int) -> float:
    """How long the whole load will probably take."""
    return past_s if past_s is not None else START_S + size_bytes / BYTES_PER_S


def left_s(elapsed_s: float, whole_s: float, fraction: float, fraction_known_s: float) -> float:
    """How much longer a load will take that has run for `elapsed_s`.

    `fraction` is what its worker says is done, negative if it does not say; it counts once it has been told for as
    long as half of what is left, as the first steps of a load say little about the others.
    """
    left = max(0.0, whole_s - elapsed_s)
    if 0.1 <= fraction < 1 and fraction_known_s > 0:
        by_progress = elapsed_s * (1 - fraction) / fraction
        if left == 0 or fraction_known_s >= left / 2:
            return by_progress
    return left


def smoothed(past_s: float | None, measured_s: float) -> float:
    """The expected load time after one more load: the last ones count most."""
    return measured_s if past_s is None else 0.5 * past_s + 0.5 * measured_s

"""Policies that pick one of several candidates. Pure: the state they need is handed in."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.core.errors import UsageError
from appliance.core.identity import WorkerId


@dataclass(slots=True)
class Candidate:
    """A worker that takes requests of one model."""

    worker: WorkerId
    max_num_seqs: int
    active: int = 0
    """Streams that this router placed there and that have not ended."""


Policy = Callable[[Sequence[Candidate]], Candidate]


class RoundRobin:
    """Each candidate in turn."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, candidates: Sequence[Candidate]) -> Candidate:
        self._turn += 1
        return candidates[(self._turn - 1) % len(candidates)]


class Random:
    """Any candidate, all equally likely."""

    def __init__(self, source: random.Random | None = None) -> None:
        self._source = source or random.Random()

    def __call__(self, candidates: Sequence[Candidate]) -> Candidate:
        return self._source.choice(candidates)


class LeastLoaded:
    """The smallest share of busy slots; ties go round, so that equal workers fill evenly."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, candidates: Sequence[Candidate]) -> Candidate:
        self._turn += 1
        count = len(candidates)
        rotated = (candidates[(self._turn + i) % count] for i in range(count))
        return min(rotated, key=lambda c: c.active / c.max_num_seqs)


POLICIES: dict[str, Callable[[], Policy]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-loaded": LeastLoaded,
}


def make_policy(mode: str) -> Policy:
    """A fresh policy by its `--router-mode` name. Raises `UsageError` naming the known ones."""
    if mode not in POLICIES:
        raise UsageError(f"unknown router mode {mode!r}; known: {', '.join(POLICIES)}")
    return POLICIES[mode]()

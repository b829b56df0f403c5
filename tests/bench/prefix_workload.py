"""Workloads whose prompts share prefixes, and what one infinite cache would reuse of them. Pure; all from a seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from appliance.routing.block_hash import local_hashes, sequence_hashes


@dataclass(frozen=True, kw_only=True)
class SharedPrefixes:
    """Requests that begin with one of several long prefixes, as those of agents and document questions do."""

    requests: int = 1200
    groups: int = 48
    prefix_tokens: int = 6400
    own_tokens: int = 1600
    """So 80 % of a prompt is shared."""
    output_tokens: int = 48
    gap_ms: float = 20.0
    """Mean time between arrivals, exponentially distributed."""
    vocabulary: int = 200
    """Token ids are drawn below this number."""
    seed: int = 1

    def arrivals(self) -> list[tuple[float, list[int]]]:
        """Time in milliseconds and prompt of each request, in order. Groups are drawn evenly."""
        random = Random(self.seed)
        prefixes = [_tokens(random, self.prefix_tokens, self.vocabulary) for _ in range(self.groups)]
        at, found = 0.0, []
        for _ in range(self.requests):
            at += random.expovariate(1 / self.gap_ms)
            found.append((at, random.choice(prefixes) + _tokens(random, self.own_tokens, self.vocabulary)))
        return found


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Conversations: each turn's prompt is all that was said before and something new."""

    sessions: int = 60
    turns: int = 6
    first_tokens: int = 1200
    turn_tokens: int = 300
    output_tokens: int = 120
    gap_ms: float = 120.0
    """Mean time between the first turns of sessions."""
    think_ms: float = 1500.0
    """Mean time between an answer and the next turn."""
    vocabulary: int = 200
    seed: int = 2

    def first_prompts(self) -> list[tuple[float, list[int]]]:
        """Time in milliseconds and first prompt of each session."""
        random = Random(self.seed)
        at, found = 0.0, []
        for _ in range(self.sessions):
            at += random.expovariate(1 / self.gap_ms)
            found.append((at, _tokens(random, self.first_tokens, self.vocabulary)))
        return found

    def follow(self, session: int, turn: int, before: Sequence[int], answer: Sequence[int]) -> tuple[float, list[int]]:
        """The pause in milliseconds before turn `turn` (1 is the second one) of a session, and its prompt."""
        random = Random(f"{self.seed}/{session}/{turn}")
        pause = random.expovariate(1 / self.think_ms)
        return pause, [*before, *answer, *_tokens(random, self.turn_tokens, self.vocabulary)]


def ideal_cached_tokens(requests: Iterable[tuple[Sequence[int], Sequence[int]]], block_size: int) -> int:
    """Prompt tokens that one cache without limits would reuse: whole blocks of earlier requests, given in order.

    Of each request its prompt and its output. The last output token is in no cache, as nothing was computed from it.
    """
    known: set[int] = set()
    reused = 0
    for prompt, output in requests:
        hashes = sequence_hashes(local_hashes([*prompt, *output[:-1]], block_size))
        reused += block_size * sum(1 for name in hashes[: len(prompt) // block_size] if name in known)
        known.update(hashes)
    return reused


def _tokens(random: Random, count: int, vocabulary: int) -> list[int]:
    return random.choices(range(10, vocabulary), k=count)

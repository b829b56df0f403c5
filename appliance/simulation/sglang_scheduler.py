"""The scheduler of SGLang: prompts before output, admission by an estimate of the output to come, retraction.

The radix tree of pages is the chain of block hashes: a page is a block, and the tree's nodes are the prefixes.
"""

from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.passes import PassResult
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sequence import RunningSequence
from appliance.simulation.timing import Timing

FIRST_RATIO = 0.7
"""Share of the output to come that is reserved at first, at a conservativeness of 1."""
LEAST_RATIO = 0.14
"""The reserved share never falls below this part of the first one."""
DECAY_PASSES = 600
"""Decode passes without a retraction after which the share has reached its least value."""
STEPS_AFTER_RETRACTION = 20
"""Tokens for which each remaining request shall have room after a retraction."""


class SglangScheduler(Scheduler):
    """See `Scheduler`. A pass either computes prompts or gives tokens to all who run."""

    def __init__(self, settings: EngineSettings, timing: Timing) -> None:
        """See `Scheduler`."""
        super().__init__(settings, timing)
        self._first_ratio = min(FIRST_RATIO * settings.sglang.schedule_conservativeness, 1.0)
        self._ratio = self._first_ratio

    def _victim(self) -> RunningSequence:
        """The one with the least output loses the least work; of those, the one with the longest prompt."""
        return min(self._running, key=lambda each: (each.output_tokens, -each.prompt_tokens))

    def _requeue(self, sequence: RunningSequence) -> None:
        self._waiting.append(sequence)

    def _plan(self, now_ms: float, done: PassResult) -> list[RunningSequence]:
        if self._waiting or self._incomplete:
            computed = self._prefill(now_ms, done)
            if computed:
                return [each for each in computed if self._is_ready(each, now_ms)]
        late = [each for each in self._running if each.is_prefilling and self._is_ready(each, now_ms)]
        self._extend_short(done)
        if done.preempted:
            self._raise_ratio()
        else:
            least = self._first_ratio * LEAST_RATIO
            self._ratio = max(self._ratio - (self._first_ratio - least) / DECAY_PASSES, least)
        return late + [each for each in self._running if not each.is_prefilling and each not in late]

    def _prefill(self, now_ms: float, done: PassResult) -> list[RunningSequence]:
        """Compute prompts within the limits of one pass; the sequences that took part."""
        limit = min(self.settings.sglang.max_prefill_tokens, self._chunk)
        took_part = []
        for sequence in [each for each in self._running if each.computed < each.length and each.is_prefilling]:
            tokens = self._cut(sequence.length - sequence.computed, limit)
            if tokens and self._grow(sequence, tokens, done):
                limit -= tokens
                took_part.append(sequence)
        if not any(each.computed < each.length for each in took_part):
            took_part += self._admit(limit, now_ms, done)
        return took_part

    def _grow(self, sequence: RunningSequence, tokens: int, done: PassResult) -> bool:
        while not self.blocks.grow(sequence, sequence.computed + tokens):
            self._preempt_one(done)
            if not sequence.is_running:
                return False
        self._count(sequence, tokens, done)
        return True

    def _admit(self, limit: int, now_ms: float, done: PassResult) -> list[RunningSequence]:
        admitted: list[RunningSequence] = []
        self.blocks.settle()
        room = self._estimated_room()
        for sequence in self._in_order():
            if self._places_left < 1:
                break
            cached = min(self.blocks.cached_tokens(sequence), sequence.length)
            missing = sequence.length - cached
            tokens = missing if self._is_brought(sequence) else self._cut(missing, limit)
            if missing and not tokens:
                break
            reserve = 0 if tokens < missing else self._output_to_come(sequence)
            alone = not self._running and not self._held
            if tokens + reserve >= room and not alone:
                break
            if self.blocks.missing_blocks(sequence, cached + tokens) > self.blocks.pool.available:
                break
            self._waiting.remove(sequence)
            before = self.blocks.pool.available
            self._begin(sequence, cached, now_ms, done)
            self.blocks.grow(sequence, cached + tokens)
            room -= (before - self.blocks.pool.available) * self.settings.block_size + reserve
            limit -= 0 if self._is_brought(sequence) else tokens
            self._count(sequence, tokens, done)
            admitted.append(sequence)
            if tokens < missing:
                break
        return admitted

    def _in_order(self) -> list[RunningSequence]:
        waiting = list(self._waiting)
        if self.settings.sglang.schedule_policy == "lpm":
            waiting.sort(key=lambda each: -self.blocks.cached_tokens(each))
        return waiting

    @property
    def _chunk(self) -> int:
        if not self.settings.enable_chunked_prefill:
            return self.settings.sglang.max_prefill_tokens
        return self.settings.sglang.chunked_prefill_size

    def _cut(self, missing: int, limit: int) -> int:
        """Tokens of a prompt within the limit: all of them, or whole pages."""
        if missing <= limit:
            return missing
        page = self.settings.block_size
        return limit // page * page

    def _output_to_come(self, sequence: RunningSequence) -> int:
        return min(sequence.end - sequence.length, self.settings.sglang.clip_max_new_tokens)

    def _estimated_room(self) -> float:
        """Tokens for which there is room, when those who run need their share for output to come."""
        running = [*self._running, *self._held]
        reserved = sum(self._output_to_come(each) for each in running) * self._ratio
        return self.blocks.pool.available * self.settings.block_size - reserved

    def _raise_ratio(self) -> None:
        """After a retraction more is reserved: what was given out, and some steps for each who is left."""
        running = [*self._running, *self._held]
        given = sum(each.output_tokens + STEPS_AFTER_RETRACTION for each in running)
        wanted = sum(each.end - each.prompt_tokens for each in running)
        self._ratio = min(1.0, given / (wanted + 1))

"""The scheduler of vLLM: one token budget per pass, running requests first, preemption when blocks run out."""

from collections.abc import Iterator

from appliance.core.errors import InvalidRequest
from appliance.simulation.passes import PassResult
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sequence import RunningSequence, SimulatedRequest


class _Plan:
    """What a pass has scheduled so far, so that it can be taken back from a sequence that has to give way."""

    def __init__(self, budget: int, done: PassResult) -> None:
        self.budget = budget
        self.done = done
        self.ready: list[RunningSequence] = []
        self._spent: dict[RunningSequence, tuple[int, int]] = {}

    def spend(self, sequence: RunningSequence, tokens: int, prompt_tokens: int) -> None:
        self.budget -= tokens
        self._spent[sequence] = (tokens, prompt_tokens)

    def undo(self, sequence: RunningSequence) -> None:
        tokens, prompt_tokens = self._spent.pop(sequence, (0, 0))
        self.budget += tokens
        self.done.prefill_tokens -= prompt_tokens
        self.done.prefill_requests -= prompt_tokens > 0


class VllmScheduler(Scheduler):
    """See `Scheduler`."""

    def _check(self, request: SimulatedRequest) -> None:
        super()._check(request)
        settings = self.settings
        tokens = len(request.prompt)
        if not settings.enable_chunked_prefill and tokens > settings.max_num_batched_tokens:
            raise InvalidRequest(
                f"a prompt of {tokens} tokens is over the budget of {settings.max_num_batched_tokens} tokens in a "
                "pass, and chunked prefill is off",
                param="prompt",
            )

    def _victims(self) -> Iterator[RunningSequence]:
        """Running sequences in the order in which they have to give way."""
        return iter(self._running) if self.settings.preemption_mode == "fifo" else reversed(self._running)

    def _victim(self) -> RunningSequence:
        return next(self._victims())

    def _plan(self, now_ms: float, done: PassResult) -> list[RunningSequence]:
        if self._short:
            self._extend_short(done)
        running = list(self._running)
        if not self._incomplete and not self._waiting and len(running) <= self.settings.max_num_batched_tokens:
            return running  # the usual case, kept short: everything decodes
        plan = _Plan(self.settings.max_num_batched_tokens, done)
        for sequence in running:
            if plan.budget < 1:
                break
            if not sequence.is_running:
                continue  # it had to give way to one before it
            if sequence.is_prefilling:
                self._compute(sequence, plan)
            else:
                plan.spend(sequence, 1, 0)
            if sequence.is_running and self._is_ready(sequence, now_ms):
                plan.ready.append(sequence)
        self._admit(plan, now_ms)
        return [each for each in plan.ready if each.is_running]

    def _compute(self, sequence: RunningSequence, plan: _Plan) -> None:
        """Compute the next piece of a running sequence's prompt, if need be at the expense of others."""
        tokens = min(sequence.length - sequence.computed, plan.budget)
        while not self.blocks.grow(sequence, sequence.computed + tokens):
            victim = self._preempt_one(plan.done)
            if victim is sequence:
                return
            plan.undo(victim)
        plan.spend(sequence, tokens, self._count(sequence, tokens, plan.done))

    def _admit(self, plan: _Plan, now_ms: float) -> None:
        """Let waiting sequences in until one does not fit.

        One that gets a token in this very pass may take blocks from others, and is then the last of the pass. So every
        pass that takes blocks gives a token, and two long prompts do not rob each other for ever.
        """
        self.blocks.settle()
        while self._waiting and self._places_left > 0:
            sequence = self._waiting[0]
            cached = min(self.blocks.cached_tokens(sequence), sequence.length)
            tokens = self._piece(sequence, cached, plan.budget)
            if tokens is None:
                return
            fits = self._fits(sequence, cached + tokens)
            if not fits and (cached + tokens < sequence.length or not self._may_make_way(sequence, cached + tokens)):
                return
            self._waiting.popleft()
            if not fits and not self._make_way(sequence, cached + tokens, plan):
                self._waiting.appendleft(sequence)
                return
            self._begin(sequence, cached, now_ms, plan.done)
            self.blocks.grow(sequence, cached + tokens)
            brought = self._is_brought(sequence)
            prompt_tokens = self._count(sequence, tokens, plan.done)
            plan.spend(sequence, 0 if brought else tokens, prompt_tokens)
            if self._is_ready(sequence, now_ms):
                plan.ready.append(sequence)
            if not fits:
                return

    def _piece(self, sequence: RunningSequence, cached: int, budget: int) -> int | None:
        """Tokens that a waiting sequence computes in this pass; None when it must wait for another one."""
        missing = sequence.length - cached
        if self._is_brought(sequence):
            return missing
        tokens = min(missing, budget)
        if missing and tokens < 1:
            return None
        # Without chunks a prompt waits for a whole pass; what is over that after a preemption is cut all the same.
        whole = not self.settings.enable_chunked_prefill and missing <= self.settings.max_num_batched_tokens
        return None if whole and tokens < missing else tokens

    def _fits(self, sequence: RunningSequence, tokens: int) -> bool:
        kept_free = int(self.settings.watermark * self.settings.num_gpu_blocks) if self._running else 0
        return self.blocks.missing_blocks(sequence, tokens) + kept_free <= self.blocks.pool.available

    def _may_make_way(self, sequence: RunningSequence, tokens: int) -> bool:
        """Whether a waiting sequence may and could take the blocks of running ones."""
        if self._held or not self.settings.admission_preempts:
            return False
        freed = sum(len(each.blocks) + each.private for each in self._running if not each.is_prefilling)
        return self.blocks.missing_blocks(sequence, tokens) <= self.blocks.pool.available + freed

    def _make_way(self, sequence: RunningSequence, tokens: int, plan: _Plan) -> bool:
        """Preempt running sequences until a waiting one fits; False when that is not enough.

        A prompt that is not complete is left alone: all work on it would be lost.
        """
        while not self._fits(sequence, tokens):
            victim = next((each for each in self._victims() if not each.is_prefilling), None)
            if victim is None:
                return False
            self._preempt(victim, plan.done)
            plan.undo(victim)
        return True

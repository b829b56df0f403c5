"""What the schedulers of both kinds have in common: queues, the tokens at the end of a pass, room by preemption."""

from abc import ABC, abstractmethod
from collections import deque

from appliance.core.errors import InvalidRequest
from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.passes import EngineLoad, PassResult
from appliance.simulation.sequence import RunningSequence, SimulatedRequest
from appliance.simulation.sequence_blocks import SequenceBlocks
from appliance.simulation.timing import Timing


class Scheduler(ABC):
    """One rank of an engine, driven pass by pass. Without a clock: the caller says what time it is."""

    def __init__(self, settings: EngineSettings, timing: Timing) -> None:
        """Raises `UsageError` for settings that no cache can be made of."""
        self.settings = settings
        self.timing = timing
        self.blocks = SequenceBlocks(settings)
        self._waiting: deque[RunningSequence] = deque()
        self._running: dict[RunningSequence, None] = {}
        """In the order of their admission."""
        self._held: set[RunningSequence] = set()
        self._short: list[RunningSequence] = []
        """Sequences that need another block to compute their last token."""
        self._incomplete = 0
        """Running sequences whose prompt is not complete."""

    @abstractmethod
    def _plan(self, now_ms: float, done: PassResult) -> list[RunningSequence]:
        """Admit, and compute prompts; the sequences that are ready for a token."""

    @abstractmethod
    def _victim(self) -> RunningSequence:
        """The running sequence that has to give way; there is one."""

    def submit(self, request: SimulatedRequest) -> RunningSequence:
        """Queue a request. Raises `InvalidRequest` for one that could never end."""
        self._check(request)
        sequence = RunningSequence(request, self.settings.block_size, hashed=self.blocks.reuses)
        self._waiting.append(sequence)
        return sequence

    def step(self, now_ms: float) -> PassResult:
        """Run one pass. New requests wait for its end, `duration_ms` later."""
        done = PassResult()
        ready = self._plan(now_ms, done)
        prefill_ms = self.timing.prefill_ms(done.prefill_tokens) if self.settings.role != "decode" else 0.0
        decode_ms = self._decode_ms(ready, done)
        self._emit(ready, done)
        done.duration_ms = prefill_ms + decode_ms
        if not done.did_something:
            done.wake_ms = min((each.ready_ms for each in self._running if each.ready_ms > now_ms), default=None)
        if self.blocks.log.wanted:
            done.events = self.blocks.drain_events()
        return done

    def cancel(self, sequence: RunningSequence) -> None:
        """Give a sequence up, wherever it is; one that is finished stays so."""
        if sequence in self._running or sequence in self._held:
            self._remove(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def hold(self, sequence: RunningSequence) -> None:
        """Give a running sequence no tokens until `resume`; it keeps its place and its blocks."""
        del self._running[sequence]
        self._held.add(sequence)

    def resume(self, sequence: RunningSequence) -> None:
        """Go on with a held sequence."""
        if sequence in self._held:
            self._held.discard(sequence)
            self._running[sequence] = None

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def load(self) -> EngineLoad:
        """How busy the rank is."""
        return EngineLoad(
            running=len(self._running) + len(self._held),
            waiting=len(self._waiting),
            active_blocks=self.blocks.pool.active,
            total_blocks=self.blocks.pool.capacity,
            queued_prompt_tokens=sum(each.prompt_tokens for each in self._waiting if not each.output_tokens),
        )

    def _check(self, request: SimulatedRequest) -> None:
        settings = self.settings
        if request.max_output_tokens < 1:
            raise InvalidRequest("a request must be for at least one output token", param="max_tokens")
        if not request.prompt:
            raise InvalidRequest("the prompt is empty", param="prompt")
        # The last token is never computed, so it needs no room.
        tokens = len(request.prompt) + request.max_output_tokens - 1
        if tokens > settings.cache_tokens:
            raise InvalidRequest(
                f"prompt and output of {tokens} tokens do not fit into a KV cache of {settings.cache_tokens}",
                param="prompt",
            )

    @property
    def _places_left(self) -> int:
        return self.settings.max_num_seqs - len(self._running) - len(self._held)

    def _decode_ms(self, ready: list[RunningSequence], done: PassResult) -> float:
        if not ready:
            return 0.0
        done.decode_requests = len(ready)
        done.decode_context_tokens = sum([each.length for each in ready])
        if self.settings.role == "prefill":
            return 0.0
        active = self.blocks.pool.active * self.settings.block_size
        return self.timing.decode_ms(active, self.settings.cache_tokens, done.decode_context_tokens / len(ready))

    def _emit(self, ready: list[RunningSequence], done: PassResult) -> None:
        """One token for each sequence that is ready."""
        emitted = done.emitted = ready
        for sequence in emitted:
            length = sequence.length = sequence.length + 1
            if length >= sequence.end:
                done.finished.append(sequence)
                self._remove(sequence)
            elif length > sequence.room:
                self._short.append(sequence)

    def _extend_short(self, done: PassResult) -> None:
        """A block for each sequence whose last token has no room yet, if need be by preemption."""
        short, self._short = self._short, []
        for sequence in short:
            if sequence in self._held:
                self._short.append(sequence)
                continue
            while sequence in self._running and not sequence.is_prefilling and sequence.length > sequence.room:
                if not self.blocks.add_block(sequence):
                    self._preempt_one(done)

    def _preempt_one(self, done: PassResult) -> RunningSequence:
        """Send the running sequence whose turn it is back to the queue. One must be running."""
        victim = self._victim()
        self._preempt(victim, done)
        return victim

    def _preempt(self, sequence: RunningSequence, done: PassResult) -> None:
        """Send a running sequence back to the queue, without its blocks."""
        self._remove(sequence)
        sequence.computed = 0
        sequence.is_prefilling = True
        sequence.preemptions += 1
        self._requeue(sequence)
        done.preempted.append(sequence)

    @staticmethod
    def _is_brought(sequence: RunningSequence) -> bool:
        """The KV cache of its prompt comes from elsewhere; after a preemption it must be computed."""
        return sequence.request.prompt_present and not sequence.preemptions

    def _requeue(self, sequence: RunningSequence) -> None:
        """A sequence that gave way waits again, before all others."""
        self._waiting.appendleft(sequence)

    def _begin(self, sequence: RunningSequence, cached: int, now_ms: float, done: PassResult) -> None:
        """Run a waiting sequence from now on, with that many of its tokens from the cache."""
        self.blocks.reuse(sequence, cached)
        sequence.computed = cached
        reused = min(cached, sequence.prompt_tokens)
        if not sequence.preemptions:
            sequence.cached_tokens = reused
            if not self._is_brought(sequence):
                sequence.ready_ms = now_ms + self.timing.prompt_wait_ms(sequence.prompt_tokens)
        self._start(sequence)
        done.admitted.append((sequence, reused))

    def _count(self, sequence: RunningSequence, tokens: int, done: PassResult) -> int:
        """Tokens of a sequence were computed; how many of them cost time.

        Output that is computed again after a preemption does not, nor does a prompt whose KV cache was brought here.
        """
        before = sequence.computed
        sequence.computed = before + tokens
        prompt = min(sequence.computed, sequence.prompt_tokens) - min(before, sequence.prompt_tokens)
        if not prompt or self._is_brought(sequence):
            return 0
        done.prefill_requests += 1
        done.prefill_tokens += prompt
        return prompt

    def _is_ready(self, sequence: RunningSequence, now_ms: float) -> bool:
        """Whether all known tokens are computed."""
        if sequence.is_prefilling:
            if sequence.computed < sequence.length or sequence.ready_ms > now_ms:
                return False
            self._complete(sequence)
        return True

    def _start(self, sequence: RunningSequence) -> None:
        """A waiting sequence runs from now on."""
        self._running[sequence] = None
        sequence.is_running = True
        self._incomplete += 1

    def _complete(self, sequence: RunningSequence) -> None:
        """All known tokens of a sequence are computed."""
        sequence.is_prefilling = False
        self._incomplete -= 1

    def _remove(self, sequence: RunningSequence) -> None:
        self._running.pop(sequence, None)
        self._held.discard(sequence)
        sequence.is_running = False
        if sequence.is_prefilling:
            self._incomplete -= 1
        self.blocks.release(sequence)

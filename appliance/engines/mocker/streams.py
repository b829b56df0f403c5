"""One mocked stream: which token comes next and when it ends. Pure; the step loop drives it."""

import math
from dataclasses import dataclass, field

from appliance.core.ports import TokenSink
from appliance.core.requests import EngineRequest, EngineUsage, FinishReason, TokenLogprob
from appliance.engines.mocker.words import TokenSource

ROOM_EVERY = 64  # tokens between two looks at the consumer's buffer; each look costs a task switch


@dataclass(eq=False)
class MockedStream:
    """A running stream. `step` emits one token; afterwards `finish` or `wants_room` tell whether to go on."""

    request: EngineRequest
    sink: TokenSink
    tokens: TokenSource
    budget: int
    """Most tokens to emit: the request's limit or the room left in the context."""
    ready_at: float
    """Time from which the prompt counts as computed."""
    emitted: int = 0
    finish: FinishReason | None = None
    _pending: list[int] = field(default_factory=list)

    @property
    def wants_room(self) -> bool:
        """Time to look whether the consumer keeps up."""
        return self.emitted % ROOM_EVERY == 0

    def step(self) -> None:
        """Emit the next token, and the finish with it or in its place."""
        if not self._pending:
            self._pending = self.tokens.draw()[::-1]
        token = self._pending.pop()
        stop = self.request.stop
        if token in stop.stop_token_ids:
            if self.emitted >= stop.min_tokens:
                self._end([], "stop")
                return
            token = self._other_than(stop.stop_token_ids)
        self.emitted += 1
        if self.emitted >= self.budget:
            self._end([token], "length" if self._goes_on() else "stop")
        elif not self._goes_on():
            self._end([token], "stop")
        else:
            self.sink.emit([token], None, None, self._logprobs([token]))

    def _goes_on(self) -> bool:
        """Whether a text would have more after what was emitted."""
        stop = self.request.stop
        return self.tokens.ends is None or stop.ignore_eos or self.emitted < max(self.tokens.ends, stop.min_tokens)

    def _other_than(self, forbidden: tuple[int, ...]) -> int:
        """A token that may stand before the minimum length; any that is not forbidden serves."""
        return next((token for token in self.tokens.draw() if token not in forbidden), max(forbidden) + 1)

    def _end(self, token_ids: list[int], finish: FinishReason) -> None:
        self.finish = finish
        usage = EngineUsage(len(self.request.token_ids), self.emitted)
        self.sink.emit(token_ids, finish, usage, self._logprobs(token_ids))

    def _logprobs(self, token_ids: list[int]) -> list[TokenLogprob] | None:
        """As if the chosen token had half of the probability, and each further one half of the one before."""
        wanted = self.request.logprobs
        if wanted is None:
            return None
        return [
            TokenLogprob(math.log(0.5), [((token + rank), math.log(0.5) * (rank + 1)) for rank in range(wanted)])
            for token in token_ids
        ]

"""One mocked stream: which token comes next and when it ends. Pure; the step loop drives it."""

import math
from typing import Any

import trio

from appliance.core.errors import EngineFailed
from appliance.core.ports import TokenSink
from appliance.core.requests import EngineRequest, EngineUsage, FinishReason, TokenLogprob
from appliance.engines.mocker.words import TokenSource
from appliance.simulation.sequence import SimulatedRequest

ROOM_EVERY = 64  # tokens between two looks at the consumer's buffer; each look costs a task switch


class MockedStream:
    """A running stream. `step` emits one token and tells whether the stream needs a look at."""

    def __init__(
        self, request: EngineRequest, sink: TokenSink, tokens: TokenSource, budget: int, fail_after: int | None
    ) -> None:
        """`budget`: most tokens to emit, by the request's limit and the room that is left."""
        self.request = request
        self.sink = sink
        self.emit = sink.emit
        self.emitted = 0
        self.cached_tokens = 0
        """Prompt tokens that the modelled engine reused."""
        self.finish: FinishReason | None = None
        self.failure: EngineFailed | None = None
        self.turn = trio.Event()
        """Set when the stream's own task has something to do."""
        self._tokens = tokens
        self._budget = budget
        self._fail_after = fail_after
        self.drawn: list[int] = []
        """The output, and some tokens beyond what was emitted."""
        self._is_plain = not request.stop.stop_token_ids and request.logprobs is None
        self.look_at = 0
        """Tokens before this one are there and go out with nothing to decide."""

    def simulated(self) -> SimulatedRequest:
        """The request as the modelled engine sees it."""
        transfer = self.request.kv_transfer
        return SimulatedRequest(
            id=self.request.id,
            prompt=self.request.token_ids,
            max_output_tokens=self._budget,
            output=self.output,
            prompt_present=transfer is not None and transfer.phase == "decode" and "mocker" in transfer.params,
            lora=self.request.lora,
        )

    def output(self, start: int, stop: int) -> list[int]:
        """Tokens that were emitted."""
        return self.drawn[start:stop]

    def step(self) -> bool:
        """Emit the next token, and the finish with it or in its place; True when it is time for a closer look.

        The step loop does it by itself for tokens before `look_at`.
        """
        index = self.emitted
        if index == self._fail_after:
            self.failure = EngineFailed("the mocker was told to fail here")
            return True
        if index == len(self.drawn):
            self.drawn += self._tokens.draw(index)
        token = self.drawn[index]
        stop = self.request.stop
        if token in stop.stop_token_ids:
            if index >= stop.min_tokens:
                self._end([], "stop")
                return True
            token = self.drawn[index] = self._other_than(stop.stop_token_ids, index)
        self.emitted = index + 1
        if self.emitted >= self._budget:
            self._end([token], "length" if self._goes_on() else "stop")
        elif not self._goes_on():
            self._end([token], "stop")
        else:
            self.sink.emit([token], None, None, self._logprobs([token]))
            self._look_ahead()
            return self.emitted % ROOM_EVERY == 0
        return True

    def _look_ahead(self) -> None:
        """Find the next token with which something may happen."""
        if not self._is_plain:
            return
        emitted = self.emitted
        ends = [len(self.drawn), self._budget - 1, emitted + ROOM_EVERY - emitted % ROOM_EVERY - 1]
        if self._tokens.ends is not None:
            ends.append(max(self._tokens.ends, self.request.stop.min_tokens) - 1)
        if self._fail_after is not None:
            ends.append(self._fail_after)
        self.look_at = min(ends)

    def _goes_on(self) -> bool:
        """Whether a text would have more after what was emitted."""
        stop = self.request.stop
        return self._tokens.ends is None or stop.ignore_eos or self.emitted < max(self._tokens.ends, stop.min_tokens)

    def _other_than(self, forbidden: tuple[int, ...], index: int) -> int:
        """A token that may stand before the minimum length; any that is not forbidden serves."""
        return next((token for token in self._tokens.draw(index) if token not in forbidden), max(forbidden) + 1)

    def _end(self, token_ids: list[int], finish: FinishReason, handover: dict[str, Any] | None = None) -> None:
        self.finish = finish
        usage = EngineUsage(len(self.request.token_ids), self.emitted, self.cached_tokens)
        self.sink.emit(token_ids, finish, usage, self._logprobs(token_ids), handover)

    def _logprobs(self, token_ids: list[int]) -> list[TokenLogprob] | None:
        """As if the chosen token had half of the probability, and each further one half of the one before."""
        wanted = self.request.logprobs
        if wanted is None:
            return None
        return [
            TokenLogprob(math.log(0.5), [((token + rank), math.log(0.5) * (rank + 1)) for rank in range(wanted)])
            for token in token_ids
        ]


class PrefillStream(MockedStream):
    """The first half of a split request: its only token comes with what the decode worker needs."""

    def step(self) -> bool:
        """The prompt is computed; `hand_over` says so."""
        return True

    def hand_over(self) -> None:
        """Emit the token, the finish and the way to the KV cache."""
        token = self._tokens.draw(0)[0]
        self.emitted = 1
        self._end([token], "length", {"mocker": {"request": self.request.id, "tokens": len(self.request.token_ids)}})

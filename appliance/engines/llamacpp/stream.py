"""One engine call seen from its calling thread: engine messages in, steps of token ids out.

Nothing here knows trio. Methods run on the thread of the call, except `stop`, which any thread may call.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest
from appliance.core.requests import FinishReason, TokenLogprob
from appliance.engines.llamacpp.held_tokens import HeldTokens

UNKNOWN_LOGPROB = -9999.0  # OpenAI's mark for a probability that was not reported


@dataclass
class Step:
    """What one engine message, or several in a row, mean for the consumer."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason | None = None


class CompletionStream:
    """Takes the messages of one call and hands on steps; remembers what the slot then holds."""

    def __init__(
        self,
        deliver: Callable[[Step], None],
        *,
        prompt: list[int],
        stop_ids: frozenset[int],
        logprobs: int | None,
        held_tokens: HeldTokens,
    ) -> None:
        self._deliver = deliver
        self._prompt = prompt
        self._stop_ids = stop_ids
        self._logprobs = logprobs
        self._held_tokens = held_tokens
        self._stopping = False
        self._pending: Step | None = None
        self._computed = 0
        self._reported = 0
        self._in_cache: int | None = None
        self.sampled: list[int] = []
        """Ids that the engine drew, the ending one included."""
        self.messages = 0
        """What the engine has said of this call: a part of the prompt done, a token, the end."""
        self.cached_tokens = 0
        self.finish: FinishReason | None = None
        self.ran_on: int | None = None
        self.error: ApplianceError | None = None

    def stop(self) -> None:
        """Have the engine give the call up at its next message."""
        self._stopping = True

    @property
    def slot_content(self) -> list[int]:
        """Tokens whose keys and values the slot holds now; never more than it really does."""
        if self._in_cache is None:  # given up: the last drawn token may not have been computed yet
            return self._prompt[: self._computed] if not self.sampled else (self._prompt + self.sampled)[:-1]
        return (self._prompt + self.sampled)[: self._in_cache]

    def on_message(self, message: dict[str, Any]) -> bool:
        """Engine callback; True ends the call. Never raises, as the binding would swallow it."""
        self.messages += 1
        try:
            self._take(message)
        except Exception:  # our own reading of a foreign message went wrong: the stream ends, with our words only
            self.error = self.error or EngineFailed("the engine gave an answer that could not be read")
            self._stopping = True
        return self._stopping

    def _take(self, message: dict[str, Any]) -> None:
        if "error" in message:
            self.error = refusal(message["error"])
            return
        verbose = message["__verbose"]
        if verbose["stop"]:
            self._take_end(verbose)
        elif self.finish is not None or self._stopping:
            self._stopping = True  # a stop id that is no end token to the engine: it went on, and is told to stop
        elif progress := verbose.get("prompt_progress"):
            self._take_progress(progress)  # such a message carries a token 0 that means nothing
        else:
            self._take_tokens(message, verbose)

    def _take_progress(self, progress: dict[str, int]) -> None:
        self.cached_tokens = progress["cache"]
        self._computed = progress["processed"]

    def _take_tokens(self, message: dict[str, Any], verbose: dict[str, Any]) -> None:
        text = message["choices"][0]["text"]
        last = verbose["tokens"][-1]
        some_held_back = verbose["tokens_predicted"] > self._reported + 1
        self._reported = verbose["tokens_predicted"]
        ids = self._held_tokens.drawn(last, text) if some_held_back else [last]
        self.sampled += ids
        self._hand_over_pending()
        step = Step(ids, self._logprobs_of(verbose, len(ids)))
        for index, token in enumerate(ids):
            if token in self._stop_ids:
                self._finish(Step(ids[:index], step.logprobs[:index], "stop"))
                return
        if text:
            self._deliver(step)
        else:
            # Control tokens have no text. This one may be an end token that only the engine knows: wait for the next.
            self._pending = step

    def _take_end(self, verbose: dict[str, Any]) -> None:
        self.ran_on = verbose["id_slot"]
        self._in_cache = verbose["tokens_cached"]
        if self.finish is not None:
            return
        ended_by_token = verbose["stop_type"] == "eos"
        if not ended_by_token:
            self._hand_over_pending()
        self._finish(Step(finish="stop" if ended_by_token else "length"))

    def _finish(self, step: Step) -> None:
        self.finish = step.finish
        self._deliver(step)

    def _hand_over_pending(self) -> None:
        if self._pending is not None:
            self._deliver(self._pending)
            self._pending = None

    def _logprobs_of(self, verbose: dict[str, Any], count: int) -> list[TokenLogprob]:
        """One entry per id; the engine reports none for ids that it held back."""
        if self._logprobs is None:
            return []
        entry = verbose["completion_probabilities"][-1]
        top = [(item["id"], item["logprob"]) for item in entry["top_logprobs"][: self._logprobs]]
        unknown = [TokenLogprob(UNKNOWN_LOGPROB) for _ in range(count - 1)]
        return [*unknown, TokenLogprob(entry["logprob"], top)]


def refusal(error: dict[str, Any]) -> ApplianceError:
    """An engine's error in our words: its own text may hold paths and prompt text."""
    message = str(error.get("message", ""))
    if error.get("type") == "exceed_context_size_error":
        return InvalidRequest("the prompt is longer than the context of this model")
    if "grammar" in message:
        return InvalidRequest("the output grammar cannot be used", param="guided_grammar")
    if "invalid tokens" in message:
        return InvalidRequest("the prompt holds token ids that this model does not have", param="prompt")
    if error.get("type") == "invalid_request_error":
        return InvalidRequest("the engine does not accept the parameters of this request")
    return EngineFailed("the engine could not go on with this request")

"""What readers of token streams share: the ending id is left out, and counts are of what was handed on. Pure."""

from typing import Any

from appliance.core.requests import EngineRequest, EngineUsage, FinishReason, TokenLogprob
from appliance.engines.foreign.finish import finish_of
from appliance.engines.foreign.relay import Step

ID_MARK = "token_id:"


class TokenCounts:
    """The end and the counts of one stream of tokens."""

    def __init__(self, request: EngineRequest) -> None:
        self.finish: FinishReason | None = None
        self.cached_tokens = 0
        self._prompt_tokens = len(request.token_ids)
        self._stop_ids = frozenset(request.stop.stop_token_ids)
        self._wants_logprobs = request.logprobs is not None
        self.emitted = 0
        """Tokens that were handed on."""

    def end(self) -> Step:
        """Nothing is held back."""
        return Step()

    def usage(self) -> EngineUsage:
        """The counts up to now."""
        return EngineUsage(self._prompt_tokens, self.emitted, self.cached_tokens)

    def handover(self) -> dict[str, Any] | None:
        """Nothing, unless a server's reader says more."""
        return None

    def step(self, ids: list[int], logprobs: list[TokenLogprob] | None, word: str | None) -> Step:
        """The tokens of one event that are shown; `word` is the server's for the end, when this is it."""
        if word:
            self.finish = finish_of(word)
            if self.finish == "stop" and ids and ids[-1] in self._stop_ids:
                ids = ids[:-1]
        self.emitted += len(ids)
        if not self._wants_logprobs:
            return Step(ids)
        entries = [*(logprobs or [])[: len(ids)]]
        return Step(ids, None, entries + [TokenLogprob(0.0)] * (len(ids) - len(entries)))


def token_id(text: Any) -> int | None:
    """The id in `token_id:N`; None for any other text."""
    if isinstance(text, str) and text.startswith(ID_MARK) and text[len(ID_MARK) :].isdigit():
        return int(text[len(ID_MARK) :])
    return None

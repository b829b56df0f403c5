"""Reads vLLM's streams of tokens, of both routes. Pure."""

from typing import Any

from appliance.core.requests import EngineRequest, TokenLogprob
from appliance.engines.foreign.relay import Step
from appliance.engines.foreign.token_events import TokenCounts, token_id
from appliance.engines.vllm.body import is_prefill


class VllmEvents(TokenCounts):
    """An `EventReader` for one stream; a whole answer is read like a single event."""

    def __init__(self, request: EngineRequest) -> None:
        super().__init__(request)
        self._is_prefill = is_prefill(request)
        self._handover: dict[str, Any] | None = None

    def take(self, event: dict[str, Any]) -> Step:
        """See `EventReader.take`."""
        if usage := event.get("usage"):
            self.cached_tokens = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        if params := event.get("kv_transfer_params"):
            self._handover = params
        choices = event.get("choices") or []
        if not choices:
            return Step()
        choice = choices[0]
        ids = [] if self._is_prefill else [int(one) for one in choice.get("token_ids") or []]
        return self.step(ids, read_logprobs(choice.get("logprobs")), choice.get("finish_reason"))

    def handover(self) -> dict[str, Any] | None:
        """What the decode half must carry, unchanged."""
        return self._handover if self._is_prefill else None


def read_logprobs(found: Any) -> list[TokenLogprob] | None:
    """Log-probabilities in the form of chats (`content`) or of completions (lists side by side)."""
    if not found:
        return None
    if "content" in found:
        return [
            TokenLogprob(entry["logprob"], _top((one["token"], one["logprob"]) for one in entry["top_logprobs"] or []))
            for entry in found["content"] or []
        ]
    tops = found.get("top_logprobs") or []
    return [
        TokenLogprob(value or 0.0, _top((tops[at] or {}).items()) if at < len(tops) else [])
        for at, value in enumerate(found.get("token_logprobs") or [])
    ]


def _top(pairs: Any) -> list[tuple[int, float]]:
    known = [(token_id(text), value) for text, value in pairs]
    return sorted(((number, value) for number, value in known if number is not None), key=lambda pair: -pair[1])

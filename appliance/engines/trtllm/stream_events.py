"""Reads TensorRT-LLM's streams of token ids. Pure."""

from typing import Any

from appliance.core.requests import TokenLogprob
from appliance.engines.foreign.relay import Step
from appliance.engines.foreign.token_events import TokenCounts


class TrtLlmEvents(TokenCounts):
    """An `EventReader` for one stream."""

    def take(self, event: dict[str, Any]) -> Step:
        """See `EventReader.take`. Other likely tokens are told as text, which names no id: they are left out."""
        if usage := event.get("usage"):
            self.cached_tokens = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        choices = event.get("choices") or []
        if not choices:
            return Step()
        choice = choices[0]
        values = (choice.get("logprobs") or {}).get("token_logprobs") or []
        logprobs = [TokenLogprob(value or 0.0) for value in values]
        return self.step([int(one) for one in choice.get("token_ids") or []], logprobs, choice.get("finish_reason"))

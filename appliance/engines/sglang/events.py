"""Reads SGLang's stream of tokens. Pure."""

from typing import Any

from appliance.core.requests import EngineRequest, TokenLogprob
from appliance.engines.foreign.refusals import refusal_of
from appliance.engines.foreign.relay import Step
from appliance.engines.foreign.token_events import TokenCounts


class SglangEvents(TokenCounts):
    """An `EventReader`. Releases differ in whether an event holds all ids so far or the new ones only.

    Both are read alike: the count in `meta_info` says how many are new, and those are the last ones.
    """

    def __init__(self, request: EngineRequest) -> None:
        super().__init__(request)
        self._is_prefill = request.kv_transfer is not None and request.kv_transfer.phase == "prefill"
        self._seen = 0

    def take(self, event: dict[str, Any]) -> Step:
        """See `EventReader.take`."""
        facts = event["meta_info"]
        self.cached_tokens = int(facts.get("cached_tokens") or 0)
        reason = facts.get("finish_reason")
        if isinstance(reason, dict) and reason.get("type") == "abort" and reason.get("status_code"):
            raise refusal_of(int(reason["status_code"]), reason)
        word = reason.get("type") if isinstance(reason, dict) else reason
        count = int(facts["completion_tokens"])
        fresh, self._seen = count - self._seen, max(count, self._seen)
        ids = [int(one) for one in event["output_ids"][-fresh:]] if fresh > 0 else []
        if self._is_prefill:
            ids = []  # the decode half shows them
        return self.step(ids, _logprobs(facts, len(ids)), word)


def _logprobs(facts: dict[str, Any], count: int) -> list[TokenLogprob]:
    entries = (facts.get("output_token_logprobs") or [])[-count:] if count else []
    tops = (facts.get("output_top_logprobs") or [])[-count:] if count else []
    found = []
    for at, entry in enumerate(entries):
        top = tops[at] if at < len(tops) and tops[at] else []
        found.append(TokenLogprob(entry[0] or 0.0, [(int(one[1]), one[0]) for one in top]))
    return found

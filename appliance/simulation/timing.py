"""How long a pass takes: formulas for prefill and decode, divided by the speed-ups, and the time of a KV transfer.

Nothing here reads a clock: everything is computed from token counts.
"""

from dataclasses import dataclass
from typing import Protocol

from appliance.core.errors import UsageError

DECODE_FLOOR_MS = 1.0


class TimingModel(Protocol):
    """Milliseconds that the parts of one pass take at ordinary speed."""

    def prefill_ms(self, new_tokens: int) -> float:
        """Computing this many prompt tokens, of all requests of the pass together; 0 for none."""

    def decode_ms(self, active_tokens: int, total_tokens: int, context_tokens: float) -> float:
        """Giving one token to each running request, with so much of the cache in use.

        `active_tokens` counts whole blocks; `context_tokens` is the mean length of the requests that get a token.
        """


class PolynomialTiming:
    """Two measured curves: prefill by its tokens, decode by the share of the cache that is in use."""

    def prefill_ms(self, new_tokens: int) -> float:
        """See `TimingModel.prefill_ms`."""
        if new_tokens <= 0:
            return 0.0
        return (4.209989e-07 * new_tokens + 1.518344e-02) * new_tokens + 16.50142

    def decode_ms(self, active_tokens: int, total_tokens: int, context_tokens: float) -> float:
        """See `TimingModel.decode_ms`."""
        used = min(1.0, active_tokens / total_tokens)
        return max(DECODE_FLOOR_MS, (-25.74 * used + 54.01) * used + 5.74)


class Timing(Protocol):
    """Milliseconds that an engine takes for the parts of one pass."""

    def prefill_ms(self, new_tokens: int) -> float:
        """See `TimingModel.prefill_ms`."""

    def decode_ms(self, active_tokens: int, total_tokens: int, context_tokens: float) -> float:
        """See `TimingModel.decode_ms`."""

    def prompt_wait_ms(self, prompt_tokens: int) -> float:
        """From admission to the first token, beside the passes: a wait that no other request notices."""


@dataclass(frozen=True, kw_only=True)
class ModelledTiming:
    """A timing model and how much faster than it the engine runs."""

    model: TimingModel
    speedup_ratio: float = 1.0
    """Divides all times of a pass; 0: passes take no time."""
    decode_speedup_ratio: float = 1.0
    """Divides the decode part once more."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a ratio that divides nothing."""
        if not 0 <= self.speedup_ratio < float("inf"):
            raise UsageError(f"speedup_ratio must be a number of at least 0, not {self.speedup_ratio}")
        if not 0 < self.decode_speedup_ratio < float("inf"):
            raise UsageError(f"decode_speedup_ratio must be a number above 0, not {self.decode_speedup_ratio}")

    def prefill_ms(self, new_tokens: int) -> float:
        """The prefill part of a pass."""
        return self._divided(self.model.prefill_ms(new_tokens), self.speedup_ratio)

    def decode_ms(self, active_tokens: int, total_tokens: int, context_tokens: float) -> float:
        """The decode part of a pass."""
        ratio = self.speedup_ratio * self.decode_speedup_ratio
        return self._divided(self.model.decode_ms(active_tokens, total_tokens, context_tokens), ratio)

    def prompt_wait_ms(self, prompt_tokens: int) -> float:
        """None: the prompt is computed in passes."""
        return 0.0

    @staticmethod
    def _divided(milliseconds: float, ratio: float) -> float:
        return milliseconds / ratio if ratio else 0.0


@dataclass(frozen=True, kw_only=True)
class FixedTiming:
    """Every pass takes the same time, and prompts are computed beside the passes."""

    step_ms: float
    prompt_ms_per_token: float = 0.0

    def prefill_ms(self, new_tokens: int) -> float:
        """Nothing: it is in `prompt_wait_ms`."""
        return 0.0

    def decode_ms(self, active_tokens: int, total_tokens: int, context_tokens: float) -> float:
        """The time of a pass."""
        return self.step_ms

    def prompt_wait_ms(self, prompt_tokens: int) -> float:
        """So much per token, in the cache or not."""
        return prompt_tokens * self.prompt_ms_per_token


def kv_transfer_ms(prompt_tokens: int, bytes_per_token: int, bandwidth_gb_s: float) -> float:
    """Moving a prompt's KV cache to a decode worker; 0 when the size or the bandwidth (GB/s, 10^9) is not given."""
    if bytes_per_token <= 0 or bandwidth_gb_s <= 0:
        return 0.0
    return prompt_tokens * bytes_per_token / (bandwidth_gb_s * 1e9) * 1000

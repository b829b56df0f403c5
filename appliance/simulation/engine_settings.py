"""What the model of an engine is told, checked."""

from dataclasses import dataclass, field
from typing import Literal

from appliance.core.errors import UsageError

EngineType = Literal["vllm", "sglang"]
Role = Literal["aggregated", "prefill", "decode"]
PREEMPTION_MODES = ("lifo", "fifo")
SGLANG_POLICIES = ("fifo", "fcfs", "lpm")


@dataclass(frozen=True, kw_only=True)
class SglangSettings:
    """What only engines of the SGLang kind have."""

    schedule_policy: str = "fifo"
    """Order of the waiting requests: by arrival (`fifo`, `fcfs`), or the longest cached prefix first (`lpm`)."""
    max_prefill_tokens: int = 16384
    """Most prompt tokens of one pass."""
    chunked_prefill_size: int = 8192
    """Longest piece of one prompt in a pass."""
    clip_max_new_tokens: int = 4096
    """A request counts with at most so much output when room for it is estimated."""
    schedule_conservativeness: float = 1.0
    """How much of the output still to come is reserved at admission; larger admits less and retracts less."""

    def __post_init__(self) -> None:
        """Raises `UsageError` naming the setting."""
        if self.schedule_policy not in SGLANG_POLICIES:
            raise UsageError(f"sglang_schedule_policy {self.schedule_policy!r} is none of {', '.join(SGLANG_POLICIES)}")
        for name in ("max_prefill_tokens", "chunked_prefill_size", "clip_max_new_tokens"):
            _check_positive(f"sglang_{name}", getattr(self, name))
        if not 0 <= self.schedule_conservativeness < float("inf"):
            raise UsageError("sglang_schedule_conservativeness must be a number of at least 0")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """One rank of a modelled engine. Times are not here: see `timing`."""

    engine_type: EngineType = "vllm"
    num_gpu_blocks: int = 16384
    """Blocks of the KV cache; pages for SGLang."""
    block_size: int = 64
    """Tokens in a block or page."""
    max_num_seqs: int = 256
    """Requests that run at once."""
    max_num_batched_tokens: int = 8192
    """Token budget of one pass (vLLM)."""
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    preemption_mode: str = "lifo"
    """Who gives way when blocks run out: the newest running request (`lifo`) or the oldest (`fifo`)."""
    admission_preempts: bool = True
    """A waiting request that finds no blocks takes them from a running one, as Dynamo's mocker does; vLLM waits."""
    watermark: float = 0.0
    """Share of the blocks that admission leaves free (vLLM)."""
    eviction: str = "lineage"
    role: Role = "aggregated"
    """Prefill: no time is spent on decoding. Decode: none on the prompt, whose KV cache was brought here."""
    sglang: SglangSettings = field(default_factory=SglangSettings)

    def __post_init__(self) -> None:
        """Raises `UsageError` naming the setting."""
        for name in ("num_gpu_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens"):
            _check_positive(name, getattr(self, name))
        if self.preemption_mode not in PREEMPTION_MODES:
            raise UsageError(f"preemption_mode {self.preemption_mode!r} is none of {', '.join(PREEMPTION_MODES)}")
        if self.engine_type == "sglang":
            for name in ("max_prefill_tokens", "chunked_prefill_size"):
                if getattr(self.sglang, name) < self.block_size:
                    raise UsageError(f"sglang_{name} must not be below the page size of {self.block_size}")
        if not 0 <= self.watermark < 1:
            raise UsageError(f"watermark must be a share of at least 0 and below 1, not {self.watermark}")

    @property
    def cache_tokens(self) -> int:
        """Tokens that the whole cache holds."""
        return self.num_gpu_blocks * self.block_size


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")

"""Engine arguments of the mocker."""

from dataclasses import dataclass

from appliance.core.model_facts import EngineOptions
from appliance.engines.arguments import EngineArguments

KNOWN = (
    "fail_after",
    "max_num_seqs",
    "num_gpu_blocks",
    "prefill_ms_per_token",
    "seed",
    "startup_ms",
    "step_ms",
    "text",
)


@dataclass(frozen=True, kw_only=True)
class MockerOptions:
    """How the mocker behaves."""

    step_ms: float
    """Time of one engine step, which gives one token to each running stream; 0: as fast as it can."""
    prefill_ms_per_token: float
    """Wait before a stream's first token, per token of its prompt."""
    startup_ms: float
    """Time that loading takes."""
    max_num_seqs: int
    """Streams that run at once; more wait."""
    num_gpu_blocks: int
    """KV blocks that the card claims."""
    seed: int
    """Seed of streams that bring none of their own."""
    text: str | None
    """The answer to everything; None: words by chance."""
    fail_after: int | None
    """Every stream fails after this many tokens."""


def read_options(options: EngineOptions) -> MockerOptions:
    """The typed engine arguments. Raises `UsageError` for an unknown key or a bad value."""
    args = EngineArguments("mocker", options.args, KNOWN)
    fail_after = args.integer("fail_after", -1, low=0)
    return MockerOptions(
        step_ms=args.number("step_ms", 10.0, low=0),
        prefill_ms_per_token=args.number("prefill_ms_per_token", 0.0, low=0),
        startup_ms=args.number("startup_ms", 0.0, low=0),
        max_num_seqs=args.integer("max_num_seqs", 256, low=1, high=65536),
        num_gpu_blocks=args.integer("num_gpu_blocks", 16384, low=1),
        seed=args.integer("seed", 0, low=-(2**63), high=2**63),
        text=args.text("text") or None,
        fail_after=None if fail_after < 0 else fail_after,
    )

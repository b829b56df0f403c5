"""Engine arguments of the mocker."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.core.errors import UsageError
from appliance.core.model_facts import EngineOptions
from appliance.engines.arguments import EngineArguments
from appliance.engines.cards import BLOCK_TOKENS
from appliance.engines.mocker.argument_file import read_argument_file
from appliance.engines.mocker.words import Reasoning
from appliance.simulation.engine_settings import EngineSettings, Role, SglangSettings
from appliance.simulation.profile_timing import read_profile
from appliance.simulation.timing import FixedTiming, ModelledTiming, PolynomialTiming, Timing, TimingModel

FIXED_PACE = ("step_ms", "prefill_ms_per_token")
SPEED_UPS = ("speedup_ratio", "decode_speedup_ratio")
KNOWN = (
    *FIXED_PACE, *SPEED_UPS, "admission_preempts", "block_size", "bootstrap_port", "bootstrap_ports",
    "data_parallel_size", "disaggregation_mode", "enable_chunked_prefill", "enable_prefix_caching", "engine_type",
    "eviction", "extra_engine_args", "fail_after", "kv_bytes_per_token", "kv_transfer_bandwidth",
    "max_num_batched_tokens", "max_num_seqs", "no_enable_chunked_prefill", "no_enable_prefix_caching",
    "num_gpu_blocks", "num_gpu_blocks_override", "planner_profile_data", "preemption_mode", "reasoning", "seed",
    "sglang_chunked_prefill_size", "sglang_clip_max_new_tokens", "sglang_max_prefill_tokens", "sglang_page_size",
    "sglang_schedule_conservativeness", "sglang_schedule_policy", "startup_ms", "startup_time", "text", "timing",
    "watermark",
)  # fmt: skip
ROLES: dict[str, Role] = {"agg": "aggregated", "prefill": "prefill", "decode": "decode"}
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, kw_only=True)
class MockerOptions:
    """How the mocker behaves."""

    engine: EngineSettings
    """The modelled engine, one rank of it."""
    timing: Timing
    ranks: int
    """Data-parallel ranks, each with a cache and a scheduler of its own."""
    startup_ms: float
    """Time that loading takes."""
    kv_bytes_per_token: int
    """0: handing a KV cache over takes no time."""
    kv_transfer_gb_s: float
    """Bandwidth of that; 0 as above."""
    bootstrap_port: int | None
    """Where the halves of split requests meet on a prefill worker, 0 for any free port; None: they do not meet."""
    seed: int
    """Seed of streams that bring none of their own."""
    text: str | None
    """The answer to everything; None: words by chance."""
    reasoning: Reasoning | None
    fail_after: int | None
    """Every stream fails after this many tokens."""


def read_options(options: EngineOptions) -> MockerOptions:
    """The typed engine arguments. Raises `UsageError` for an unknown key, a bad value or an unreadable file."""
    given: Mapping[str, str] = options.args
    if path := EngineArguments("mocker", given, KNOWN).text("extra_engine_args"):
        # The mode may come from the worker's own flag or its component's type, of which the file need know nothing.
        mode = {key: value for key, value in given.items() if key.replace("-", "_") == "disaggregation_mode"}
        given = mode | read_argument_file(Path(path))
    args = EngineArguments("mocker", given, KNOWN)
    fail_after = args.integer("fail_after", -1, low=0)
    return MockerOptions(
        engine=_engine_settings(args),
        timing=_timing(args),
        ranks=args.integer("data_parallel_size", 1, low=1, high=1024),
        startup_ms=args.number("startup_ms", args.number("startup_time", 0.0, low=0) * 1000, low=0),
        kv_bytes_per_token=args.integer("kv_bytes_per_token", 0, low=0),
        kv_transfer_gb_s=args.number("kv_transfer_bandwidth", 64.0, low=0),
        bootstrap_port=_bootstrap_port(args),
        seed=args.integer("seed", 0, low=-(2**63), high=2**63),
        text=args.text("text") or None,
        reasoning=_reasoning(args),
        fail_after=None if fail_after < 0 else fail_after,
    )


def _engine_settings(args: EngineArguments) -> EngineSettings:
    sglang = SglangSettings(
        schedule_policy=args.text("sglang_schedule_policy") or "fifo",
        max_prefill_tokens=args.integer("sglang_max_prefill_tokens", 16384, low=1),
        chunked_prefill_size=args.integer("sglang_chunked_prefill_size", 8192, low=1),
        clip_max_new_tokens=args.integer("sglang_clip_max_new_tokens", 4096, low=1),
        schedule_conservativeness=args.number("sglang_schedule_conservativeness", 1.0, low=0),
    )
    is_sglang = args.one_of("engine_type", "vllm", ("vllm", "sglang")) == "sglang"
    page = args.integer("sglang_page_size", 1, low=1) if is_sglang else BLOCK_TOKENS
    blocks = args.integer("num_gpu_blocks_override", 16384, low=1)
    return EngineSettings(
        engine_type="sglang" if is_sglang else "vllm",
        num_gpu_blocks=args.integer("num_gpu_blocks", blocks, low=1),
        block_size=args.integer("block_size", page, low=0) or page,
        max_num_seqs=args.integer("max_num_seqs", 256, low=1, high=65536),
        max_num_batched_tokens=args.integer("max_num_batched_tokens", 8192, low=1),
        enable_prefix_caching=_flag(args, "enable_prefix_caching"),
        enable_chunked_prefill=_flag(args, "enable_chunked_prefill"),
        preemption_mode=args.text("preemption_mode") or "lifo",
        admission_preempts=_flag(args, "admission_preempts"),
        watermark=args.number("watermark", 0.0, low=0),
        eviction=args.text("eviction") or "lineage",
        role=ROLES[args.one_of("disaggregation_mode", "agg", tuple(ROLES))],
        sglang=sglang,
    )


def _timing(args: EngineArguments) -> Timing:
    """A fixed pace unless a model is asked for, by name or by what only a model can use."""
    profile = args.text("planner_profile_data")
    asked = [key for key in (*SPEED_UPS, "planner_profile_data") if args.text(key) is not None]
    default = "fixed" if not asked else "profile" if profile else "polynomial"
    timing = args.one_of("timing", default, ("fixed", "polynomial", "profile"))
    wrong = asked if timing == "fixed" else [key for key in FIXED_PACE if args.text(key) is not None]
    if timing == "polynomial" and profile:
        wrong.append("planner_profile_data")
    if wrong:
        raise UsageError(f"engine argument {wrong[0]} of mocker has no place in {timing} timing")
    if timing == "fixed":
        return FixedTiming(
            step_ms=args.number("step_ms", 10.0, low=0),
            prompt_ms_per_token=args.number("prefill_ms_per_token", 0.0, low=0),
        )
    return ModelledTiming(
        model=_profile(profile) if timing == "profile" else PolynomialTiming(),
        speedup_ratio=args.number("speedup_ratio", 1.0, low=0),
        decode_speedup_ratio=args.number("decode_speedup_ratio", 1.0, low=0),
    )


def _profile(path: str | None) -> TimingModel:
    if path is None:
        raise UsageError("engine argument timing=profile of mocker needs planner_profile_data=FILE")
    try:
        return read_profile(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror}") from None


def _reasoning(args: EngineArguments) -> Reasoning | None:
    text = args.text("reasoning")
    if text is None:
        return None
    try:
        reasoning = msgspec.json.decode(text, type=Reasoning)
    except msgspec.DecodeError as error:
        raise UsageError(f"engine argument reasoning of mocker: {error}") from None
    if not 0 <= reasoning.thinking_ratio <= 1:
        raise UsageError("engine argument reasoning of mocker: thinking_ratio must be within 0 and 1")
    return reasoning


def _bootstrap_port(args: EngineArguments) -> int | None:
    """The port; `bootstrap_ports` is upstream's list with one for each worker of a process, which here is one."""
    if "," in (args.text("bootstrap_ports") or ""):
        raise UsageError("engine argument bootstrap_ports of mocker: a worker process takes one port; use replicas")
    given = [key for key in ("bootstrap_port", "bootstrap_ports") if args.text(key) is not None]
    if len(given) > 1:
        raise UsageError("engine arguments bootstrap_port and bootstrap_ports of mocker mean the same; give one")
    return args.integer(given[0], 0, low=0, high=65535) if given else None


def _flag(args: EngineArguments, key: str) -> bool:
    """A switch that is on by default; `no_<key>` is what a `--no-<key>` flag becomes."""
    if f"no_{key}" in KNOWN and args.one_of(f"no_{key}", "false", (*TRUE, *FALSE)) in TRUE:
        return False
    return args.one_of(key, "true", (*TRUE, *FALSE)) in TRUE

"""What an instance needs of GPUs: by its manifest, by its engine, by its engine arguments."""

from collections.abc import Callable, Mapping
from math import prod

from appliance.core.errors import UsageError
from appliance.core.gpus import GIB, GpuDemand
from appliance.core.instances import ComponentInstance
from appliance.graph.arguments import flag_value

GPU_ENGINES = ("vllm", "sglang", "trtllm")
"""Engines that do not run without a GPU."""
AT_LEAST = {"vllm": (7, 0), "sglang": (7, 5), "trtllm": (8, 0)}
"""Least compute capability, as their makers say."""

TENSOR_PARALLEL = {"vllm": "tensor_parallel_size", "sglang": "tp_size", "trtllm": "tp_size"}
"""The engine argument by which each engine is split over GPUs; it is passed on as a flag of the same name."""
WIDTHS = (
    ("tensor_parallel", "tensor_parallel_size", "tp_size", "tp"),
    ("pipeline_parallel", "pipeline_parallel_size", "pp_size", "pp"),
)
"""Engine arguments that multiply the GPUs of one worker; of each row one counts."""
SHARES = ("gpu_memory_utilization", "mem_fraction_static", "free_gpu_memory_fraction")
"""Engine arguments that say which part of each GPU a worker takes."""
WHOLE_FROM = 0.85
"""A worker that takes this much of a GPU leaves nothing of use to others: it has it for itself."""
WEIGHTS_FACTOR = 1.1  # allocators round up, some layers are kept twice
OVERHEAD = 2 * GIB  # context of the driver, graphs and work space of an engine; the least cache


def gpu_demand(instance: ComponentInstance, weights_of: Callable[[str], int]) -> GpuDemand | None:
    """The demand of an instance; None: it runs on the CPU. `weights_of`: bytes of a model, 0 when not known.

    Raises `UsageError` when manifest and engine arguments contradict each other.
    """
    if not instance.argv or instance.argv[0] != "worker":
        return None
    engine = flag_value(instance.argv, "--engine") or "auto"
    args = engine_args(instance.argv)
    if not instance.gpus and not _computes_here(engine, args):
        return None
    weights = weights_of(flag_value(instance.argv, "--model") or "")
    need = int(weights * WEIGHTS_FACTOR) + OVERHEAD if weights else 0
    return _demand(instance, engine, args, need)


def _demand(instance: ComponentInstance, engine: str, args: Mapping[str, str], need: int) -> GpuDemand:
    wish = instance.gpus
    width = _width(args)
    if wish and width and wish.count != width:
        raise UsageError(
            f"{instance.graph}/{instance.component} asks for {wish.count} GPUs, and its engine arguments need {width}"
        )
    share = wish.memory_share or _share(args)
    shared = share is not None or wish.memory_bytes is not None
    if engine not in GPU_ENGINES and not wish:  # layers of the embedded engine: just what they take
        shared, share = True, share
        need = need or OVERHEAD
    count = wish.count or width or (None if engine in GPU_ENGINES and need else 1)
    return GpuDemand(
        count=count,
        memory_bytes=wish.memory_bytes * wish.count if wish.memory_bytes is not None else _least(engine, need),
        shared=shared,
        share=share,
        at_least=AT_LEAST.get(engine),
        # A command of the user's own may be a build for the CPU.
        may_do_without=engine == "mocker" or "command" in args,
    )


def tensor_parallel_args(instance: ComponentInstance, count: int) -> tuple[str, ...]:
    """What is added to the argv of a worker on several GPUs that does not say itself how it is split."""
    engine = flag_value(instance.argv, "--engine")
    if count < 2 or engine not in TENSOR_PARALLEL or _width(engine_args(instance.argv)):
        return ()
    return ("--engine-arg", f"{TENSOR_PARALLEL[engine]}={count}")


def engine_args(argv: tuple[str, ...]) -> dict[str, str]:
    """The engine arguments of a worker, dashes in their names as underscores; a later one wins."""
    found = {}
    for at, word in enumerate(argv):
        pair = argv[at + 1] if word == "--engine-arg" and at + 1 < len(argv) else ""
        if word.startswith("--engine-arg="):
            pair = word.partition("=")[2]
        key, equals, value = pair.partition("=")
        if equals:
            found[key.replace("-", "_")] = value
    return found


def _least(engine: str, need: int) -> int:
    """The mocker computes nothing: what its model weighs is of no matter."""
    return 0 if engine == "mocker" else need


def _width(args: Mapping[str, str]) -> int | None:
    """GPUs of one worker by its engine arguments; None when they do not say."""
    found = [next((args[name] for name in names if name in args), None) for names in WIDTHS]
    numbers = [int(text) for text in found if text is not None and text.isascii() and text.isdigit()]
    return prod(numbers) if numbers and all(numbers) else None


def _share(args: Mapping[str, str]) -> float | None:
    for name in SHARES:
        try:
            share = float(args[name])
        except (KeyError, ValueError):
            continue
        return share if 0 < share < WHOLE_FROM else None
    return None


def _computes_here(engine: str, args: Mapping[str, str]) -> bool:
    """Whether it uses GPUs without being asked to; not a server that runs elsewhere, nor one told to use the CPU."""
    if engine in GPU_ENGINES:
        return "url" not in args and args.get("device") != "cpu"
    return args.get("gpu_layers", "0") != "0"

"""Which engine runs a model, and where its files are. Imports an engine only when it is chosen."""

from dataclasses import replace
from pathlib import Path

from appliance.core.errors import ModelFileBad, UsageError
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import Engine
from appliance.core.requests import Sampling
from appliance.models.demo import DEMO_NAME, demo_model_path
from appliance.models.facts import describe_model
from appliance.models.memory_fit import refuse_if_too_large
from appliance.roles.options import ENGINES, SERVERS

TEXT_ENGINES = ("remote",)
"""Engines that need no file of the model here."""
LEAST_CONTEXT = 512  # tokens; less is of no use


def model_facts(engine: str, model: str) -> ModelFacts:
    """Facts of the model that a worker was given. Blocks on the disk. Raises `ModelFileBad`.

    The mocker takes any name; without files behind it, it borrows the demo model's tokenizer and template.
    """
    path = Path(model).expanduser()
    if engine in TEXT_ENGINES or (engine in SERVERS and not path.exists()):
        return nothing_known(model)
    if model == DEMO_NAME:
        # Greedy unless a client says otherwise: it knows a few answers by heart and little else.
        return replace(describe_model(demo_model_path()), default_sampling=Sampling(temperature=0.0))
    if engine == "trtllm":
        return _facts_of_any_folder(path, model)
    if engine == "mocker" and not path.exists():
        return replace(describe_model(demo_model_path()), name=model)
    return describe_model(path)


def _facts_of_any_folder(path: Path, model: str) -> ModelFacts:
    """TensorRT-LLM also serves what it has compiled itself, whose folder holds nothing that is known here."""
    try:
        return describe_model(path)
    except ModelFileBad:
        return nothing_known(model)


def nothing_known(model: str) -> ModelFacts:
    """Facts of a model whose files are not here: its name."""
    return ModelFacts(
        path=Path(model),
        name=model,
        architecture="",
        size_bytes=0,
        context_length=0,
        vocab_size=0,
        embedding_size=0,
    )


def choose_engine(engine: str, facts: ModelFacts, options: EngineOptions, state_dir: Path | None = None) -> Engine:
    """The engine instance for a model, not started. Raises `UsageError` for wrong engine arguments.

    `state_dir` holds the managed environments of foreign engines.
    """
    if engine == "mocker":
        from appliance.engines.mocker.engine import MockerEngine

        return MockerEngine(facts, options)
    if engine == "remote":
        from appliance.engines.remote.engine import RemoteEngine

        return RemoteEngine(facts.name, options)
    if engine in SERVERS:
        return _foreign_engine(engine, facts, options, state_dir)
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is not in this build; known: {', '.join(ENGINES)}")
    if facts.path.suffix != ".gguf":
        raise ModelFileBad(
            f"the embedded engine runs GGUF files, and {facts.path.name} is none; for safetensors on a GPU install an"
            " engine with `engine install vllm`"
        )
    import psutil

    from appliance.engines.llamacpp.engine import LlamaCppEngine

    refuse_without_memory(facts, options, psutil.virtual_memory().available)
    return LlamaCppEngine(facts, options)


def _foreign_engine(engine: str, facts: ModelFacts, options: EngineOptions, state_dir: Path | None) -> Engine:
    from appliance.roles.foreign_engines import surroundings

    around = surroundings(state_dir)
    if engine == "vllm":
        from appliance.engines.vllm.engine import VllmEngine

        return VllmEngine(facts, options, around)
    if engine == "sglang":
        from appliance.engines.sglang.engine import SglangEngine

        return SglangEngine(facts, options, around)
    from appliance.engines.trtllm.engine import TrtLlmEngine

    return TrtLlmEngine(facts, options, around)


def refuse_without_memory(facts: ModelFacts, options: EngineOptions, available_bytes: int) -> None:
    """Raise `ModelFileBad` with the arithmetic when weights and the least cache do not fit into main memory.

    The least cache is what the user asked for, else one slot of the shortest context: the engine shrinks the rest by
    itself. Layers on a GPU take no main memory, so with `gpu_layers` nothing is known here.
    """
    slots = options.args.get("slots", "1")
    if "gpu_layers" in options.args or not slots.isdigit():
        return
    context = options.context_length or LEAST_CONTEXT
    refusal = refuse_if_too_large(
        facts, context_length=context, slots=int(slots), available_bytes=available_bytes, where="memory"
    )
    if refusal is not None:
        raise ModelFileBad(refusal)

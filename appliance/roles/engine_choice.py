"""Which engine runs a model, and where its files are. Imports an engine only when it is chosen."""

from dataclasses import replace
from pathlib import Path

from appliance.core.errors import ModelFileBad, UsageError
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import Engine
from appliance.core.requests import Sampling
from appliance.models.demo import DEMO_NAME, demo_model_path
from appliance.models.facts import describe_model
from appliance.roles.options import ENGINES


def model_facts(engine: str, model: str) -> ModelFacts:
    """Facts of the model that a worker was given. Blocks on the disk. Raises `ModelFileBad`.

    The mocker takes any name; without files behind it, it borrows the demo model's tokenizer and template.
    """
    path = Path(model).expanduser()
    if model == DEMO_NAME:
        # Greedy unless a client says otherwise: it knows a few answers by heart and little else.
        return replace(describe_model(demo_model_path()), default_sampling=Sampling(temperature=0.0))
    if engine == "mocker" and not path.exists():
        return replace(describe_model(demo_model_path()), name=model)
    return describe_model(path)


def choose_engine(engine: str, facts: ModelFacts, options: EngineOptions) -> Engine:
    """The engine instance for a model, not started. Raises `UsageError` for wrong engine arguments."""
    if engine == "mocker":
        from appliance.engines.mocker.engine import MockerEngine

        return MockerEngine(facts, options)
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is not in this build; known: {', '.join(ENGINES)}")
    if facts.path.suffix != ".gguf":
        raise ModelFileBad(f"the embedded engine runs GGUF files, and {facts.path.name} is none")
    from appliance.engines.llamacpp.engine import LlamaCppEngine

    return LlamaCppEngine(facts, options)

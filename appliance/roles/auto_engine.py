"""What `--engine auto` means for a model: GGUF runs in the embedded engine, safetensors need an installed server."""

from pathlib import Path

from appliance.engines.managed.catalogue import newest_environment
from appliance.roles.hub_models import ModelSource, hub_holds_gguf, hub_reference

PREFERRED = ("vllm", "sglang")
"""Of several that are installed the first one is taken."""


def chosen_engine(engine: str, model: str, source: ModelSource, engines_dir: Path) -> str:
    """The engine to write into the graph; `auto` stays where nothing but the embedded engine could run the model.

    Asks the hub for the files of a model that does not lie here. Blocks. Raises `ModelUnavailable`, `HubUnreachable`.
    """
    if engine != "auto":
        return engine
    installed = next((name for name in PREFERRED if newest_environment(engines_dir, name) is not None), None)
    if installed is None:
        return engine
    path = Path(model).expanduser()
    if path.exists():
        return installed if is_weight_folder(path) else engine
    reference = hub_reference(engine, model)
    if reference is None:
        return engine
    return engine if hub_holds_gguf(reference, source) else installed


def is_weight_folder(path: Path) -> bool:
    """Whether a path is a folder of safetensors, with no GGUF file that the embedded engine would take."""
    return path.is_dir() and (path / "config.json").exists() and not any(path.glob("*.gguf"))

"""Finds models that want to bring their own Python code: `auto_map` in their settings. Blocks on the disk."""

from pathlib import Path

from appliance.core.errors import ModelUnavailable
from appliance.models.folder_files import read_json

SETTINGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
"""Where a model may ask for it."""


def asks_for_code(settings: Path) -> bool:
    """Whether a settings file names Python classes of the model's own; False when there is no such file."""
    return bool((read_json(settings) or {}).get("auto_map"))


def remote_code(folder: Path) -> list[str]:
    """The names of the settings files in a model folder that ask for code of the model's own."""
    return [name for name in SETTINGS if asks_for_code(folder / name)]


def code_refusal(model: str, asking: list[str]) -> ModelUnavailable:
    """The error for a model that wants to run code of its own."""
    return ModelUnavailable(
        f"{model} wants to run Python code of its own (auto_map in {', '.join(asking)}); "
        "allow that with the setting hub.allow_remote_code if you trust its author"
    )

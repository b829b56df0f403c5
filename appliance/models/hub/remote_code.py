"""Finds models that want to bring their own Python code: `auto_map` in their settings. Blocks on the disk."""

from pathlib import Path

from appliance.core.errors import ModelUnavailable
from appliance.models.folder_files import read_json

SETTINGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def remote_code(folder: Path) -> list[str]:
    """The names of the settings files in a model folder that ask for code of the model's own."""
    return [name for name in SETTINGS if (read_json(folder / name) or {}).get("auto_map")]


def refuse_remote_code(name: str, folder: Path) -> None:
    """Raise `ModelUnavailable` when the model in the folder wants to run code of its own."""
    if asking := remote_code(folder):
        raise ModelUnavailable(
            f"{name} wants to run Python code of its own (auto_map in {', '.join(asking)}); "
            "allow that with the setting hub.allow_remote_code if you trust its author"
        )

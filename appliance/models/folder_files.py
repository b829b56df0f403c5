"""Reads the small files of a model folder: JSON settings and chat templates, with a bound on their size."""

import json
from pathlib import Path
from typing import Any

from appliance.core.errors import ModelFileBad

MAX_SMALL_FILE = 128 << 20  # the largest tokenizer.json in use has about 35 MB
TEMPLATE, TOOL_TEMPLATE = "chat_template.jinja", "tool_chat_template.jinja"


def read_bytes(path: Path) -> bytes | None:
    """The file's bytes; None when it does not exist. Raises `ModelFileBad` when it cannot be read or is too large."""
    try:
        if path.stat().st_size > MAX_SMALL_FILE:
            raise ModelFileBad(f"{path} is larger than {MAX_SMALL_FILE} bytes, which no such file is")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelFileBad(f"cannot read {path}: {error.strerror or error}") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None when the file does not exist. Raises `ModelFileBad` on anything else."""
    data = read_bytes(path)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileBad(f"{path} is no valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelFileBad(f"{path} holds no JSON object")
    return value


def read_templates(folder: Path, tokenizer_config: dict[str, Any]) -> dict[str, bytes]:
    """Chat templates by card name. The template file wins over what the tokenizer config says."""
    found = _named_templates(tokenizer_config.get("chat_template"))
    older = read_json(folder / "chat_template.json") or {}
    found |= _named_templates(older.get("chat_template"))
    for card_name, path in (
        (TEMPLATE, folder / TEMPLATE),
        (TOOL_TEMPLATE, folder / "additional_chat_templates" / "tool_use.jinja"),
    ):
        data = read_bytes(path)
        if data is not None:
            found[card_name] = data
    return found


def _named_templates(value: Any) -> dict[str, bytes]:
    """One template as text, or a list of named ones of which `default` and `tool_use` are used."""
    if isinstance(value, str):
        return {TEMPLATE: value.encode()}
    if not isinstance(value, list):
        return {}
    named = {
        entry["name"]: entry["template"].encode()
        for entry in value
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
    }
    card_names = {"default": TEMPLATE, "tool_use": TOOL_TEMPLATE}
    return {card_names[name]: template for name, template in named.items() if name in card_names}

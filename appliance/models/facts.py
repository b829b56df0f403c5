"""Says what a model is from its files: a GGUF file, a folder with one, or a Hugging Face folder."""

from dataclasses import replace
from pathlib import Path

from appliance.core.errors import ModelFileBad
from appliance.core.model_facts import ModelFacts
from appliance.models.file_refs import file_refs
from appliance.models.folder_facts import describe_folder
from appliance.models.folder_files import read_bytes, read_json, read_templates
from appliance.models.gguf_facts import SHARD, describe_gguf


def describe_model(path: Path) -> ModelFacts:
    """Everything that the files say about a model; nothing is loaded.

    Raises `ModelFileBad`, with one line for the user, when the path does not exist, holds no model, or its files are
    damaged, truncated or of a kind that no engine here runs. Blocks on disk and CPU: up to a second or two for the
    largest vocabularies.
    """
    try:
        if path.is_dir():
            return _describe_directory(path)
        if path.exists():
            return describe_gguf(path)
    except OSError as error:
        raise ModelFileBad(f"cannot read model {path}: {error.strerror or error}") from None
    raise ModelFileBad(f"model {path} does not exist")


def _describe_directory(path: Path) -> ModelFacts:
    candidates = [file for file in sorted(path.glob("*.gguf")) if _is_main(file)]
    if len(candidates) > 1:
        names = ", ".join(file.name for file in candidates)
        raise ModelFileBad(f"model folder {path} holds more than one GGUF file; give one of them: {names}")
    if candidates:
        return _with_folder_files(describe_gguf(candidates[0]), path)
    if (path / "config.json").exists():
        return describe_folder(path)
    raise ModelFileBad(f"model folder {path} holds neither a GGUF file nor a config.json")


def _is_main(file: Path) -> bool:
    """Not a projector, and of a sharded model only the first shard."""
    shard = SHARD.match(file.name)
    return not file.name.startswith("mmproj") and (shard is None or int(shard["number"]) == 1)


def _with_folder_files(facts: ModelFacts, folder: Path) -> ModelFacts:
    """Templates beside a GGUF file win over those inside; its tokenizer is used only when none could be built."""
    files = facts.files | read_templates(folder, read_json(folder / "tokenizer_config.json") or {})
    beside = read_bytes(folder / "tokenizer.json")
    if beside is not None and "tokenizer.json" not in files:
        files["tokenizer.json"] = beside
    return replace(facts, files=files, refs=file_refs(files))

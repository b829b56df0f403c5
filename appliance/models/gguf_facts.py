"""Facts of a model in a GGUF file: sizes, vocabulary, templates, sampling defaults."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.core.errors import ModelFileBad
from appliance.core.model_facts import ModelFacts
from appliance.core.requests import Sampling, Task
from appliance.models import architectures
from appliance.models.file_refs import file_refs
from appliance.models.gguf import GgufFile, read_gguf
from appliance.models.gguf_tokenizer import build_detokenizer, build_tokenizer
from appliance.models.gguf_vocab import Vocabulary, read_vocabulary
from appliance.models.sampling import read_sampling

KV_BYTES = 2  # keys and values are kept at 16 bit
POOLING_FOR_TEXT = (None, 0, 4)
"""Pooling types that say nothing about vectors: absent, none, and rank."""
SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


def describe_gguf(path: Path) -> ModelFacts:
    """Facts of one GGUF model; a sharded one is named by its first shard.

    Raises `ModelFileBad` when a file is missing or damaged, or holds no model that the embedded engine runs.
    """
    file = read_gguf(path)
    _check_is_model(file)
    vocabulary = read_vocabulary(file.metadata)
    facts = _describe_shape(file, vocabulary)
    return facts if vocabulary is None else _add_vocabulary(facts, file, vocabulary)


def _check_is_model(file: GgufFile) -> None:
    kind = file.metadata.get("general.type", "model")
    architecture = file.metadata.get("general.architecture")
    if kind != "model" or architecture == "clip":
        kind = "projector" if architecture == "clip" else kind
        raise ModelFileBad(f"{file.path} holds no model of its own (its type is {kind!r})")
    if not isinstance(architecture, str):
        raise ModelFileBad(f"model {file.path} does not say its architecture")
    if architecture not in architectures.KNOWN:
        raise ModelFileBad(f"model {file.path} has architecture {architecture!r}, which the embedded engine cannot run")
    if not file.tensors:
        raise ModelFileBad(f"model {file.path} holds no tensors")


def _describe_shape(file: GgufFile, vocabulary: Vocabulary | None) -> ModelFacts:
    architecture = file.metadata["general.architecture"]
    embedding = _number(file, "embedding_length")
    layers = _number(file, "block_count")
    tokens = len(vocabulary.tokens) if vocabulary else _number(file, "vocab_size")
    return ModelFacts(
        path=file.path,
        name=_name(file.path),
        architecture=architecture,
        size_bytes=_weight_bytes(file),
        context_length=_number(file, "context_length"),
        vocab_size=tokens,
        embedding_size=_number(file, "embedding_length_out", embedding),
        layers=layers,
        kv_bytes_per_token=_kv_bytes(file, layers, embedding),
        task=_task(file, architecture),
        default_sampling=_sampling(file),
    )


def _add_vocabulary(facts: ModelFacts, file: GgufFile, vocabulary: Vocabulary) -> ModelFacts:
    files: dict[str, bytes] = {}
    tokenizer = build_tokenizer(vocabulary, str(file.metadata.get("general.name", "")))
    if tokenizer is not None:
        files["tokenizer.json"] = tokenizer
    elif (detokenizer := build_detokenizer(vocabulary)) is not None:
        files["detokenizer.json"] = detokenizer
    for card_name, key in (
        ("chat_template.jinja", "tokenizer.chat_template"),
        ("tool_chat_template.jinja", "tokenizer.chat_template.tool_use"),
    ):
        template = file.metadata.get(key)
        if isinstance(template, str):
            files[card_name] = template.encode("utf-8", "replace")
    return replace(
        facts,
        bos_token=vocabulary.text(vocabulary.bos_id),
        eos_token=vocabulary.text(vocabulary.eos_id),
        add_bos=vocabulary.add_bos and vocabulary.bos_id is not None,
        eos_token_ids=vocabulary.end_ids,
        files=files,
        refs=file_refs(files),
    )


def _name(path: Path) -> str:
    shard = SHARD.match(path.name)
    return shard["stem"] if shard else path.stem


def _weight_bytes(file: GgufFile) -> int:
    """Tensor bytes over all shards. Every other shard must be present and whole."""
    count = file.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return file.size_bytes
    shard = SHARD.match(file.path.name)
    if shard is None or int(shard["count"]) != count or shard["number"] != "00001":
        raise ModelFileBad(
            f"model {file.path} is one of {count} shards; give the one named ...-00001-of-{count:05}.gguf"
        )
    others = (file.path.with_name(f"{shard['stem']}-{n:05}-of-{count:05}.gguf") for n in range(2, count + 1))
    return file.size_bytes + sum(read_gguf(other).size_bytes for other in others)


def _number(file: GgufFile, key: str, default: int = 0) -> int:
    value = file.metadata.get(f"{file.metadata['general.architecture']}.{key}", default)
    return value if isinstance(value, int) and value >= 0 else default


def _kv_bytes(file: GgufFile, layers: int, embedding: int) -> int:
    """Bytes of keys and values of one token over all layers; head counts may differ by layer."""
    metadata, architecture = file.metadata, file.metadata["general.architecture"]
    if rank := _number(file, "attention.kv_lora_rank"):  # latent attention keeps one short vector per token and layer
        return KV_BYTES * layers * (rank + _number(file, "rope.dimension_count"))
    heads = _per_layer(metadata.get(f"{architecture}.attention.head_count"), layers)
    kv_heads = _per_layer(metadata.get(f"{architecture}.attention.head_count_kv"), layers) or heads
    head_size = embedding // max(heads, default=0) if max(heads, default=0) else 0
    key = _number(file, "attention.key_length", head_size)
    value = _number(file, "attention.value_length", head_size)
    return KV_BYTES * (key + value) * sum(kv_heads)


def _per_layer(value: Any, layers: int) -> list[int]:
    if isinstance(value, int):
        return [value] * layers
    if isinstance(value, tuple) and all(isinstance(entry, int) for entry in value):
        return list(value)
    return []


def _task(file: GgufFile, architecture: str) -> Task:
    pooling = file.metadata.get(f"{architecture}.pooling_type")
    return "embed" if architecture in architectures.EMBEDDING or pooling not in POOLING_FOR_TEXT else "generate"


def _sampling(file: GgufFile) -> Sampling:
    names = {"temperature": "temp", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
    names["repetition_penalty"] = "penalty_repeat"
    return read_sampling({ours: file.metadata.get(f"general.sampling.{theirs}") for ours, theirs in names.items()})

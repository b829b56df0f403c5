"""Facts of a model in a Hugging Face folder: config, generation config, tokenizer, templates, weights."""

from pathlib import Path
from typing import Any

from appliance.core.errors import ModelFileBad
from appliance.core.model_facts import ModelFacts
from appliance.core.requests import Sampling
from appliance.models.file_refs import file_refs
from appliance.models.folder_files import read_bytes, read_json, read_templates
from appliance.models.safetensors import weight_bytes
from appliance.models.sampling import read_sampling

KV_BYTES = 2
EMBEDDING_TYPES = frozenset(
    ["bert", "distilbert", "electra", "gte", "modernbert", "mpnet", "new", "nomic_bert", "roberta", "xlm-roberta"]
)
"""`model_type` values of models that give vectors and no text."""
DEFAULT_CONTEXT = 2048  # for a config that names none; small enough for any model


def describe_folder(path: Path) -> ModelFacts:
    """Facts of a Hugging Face folder. Raises `ModelFileBad` when a needed file is missing or damaged."""
    config = read_json(path / "config.json")
    if config is None:
        raise ModelFileBad(f"model folder {path} has no config.json")
    text_config = config.get("text_config")
    shape = text_config if isinstance(text_config, dict) else config
    generation = read_json(path / "generation_config.json") or {}
    tokenizer = read_json(path / "tokenizer_config.json") or {}
    files = read_templates(path, tokenizer)
    if (tokenizer_json := read_bytes(path / "tokenizer.json")) is not None:
        files["tokenizer.json"] = tokenizer_json
    layers, kv_bytes = _count_kv(shape)
    model_type = str(config.get("model_type", "unknown"))
    return ModelFacts(
        path=path,
        name=path.resolve().name,
        architecture=model_type,
        size_bytes=weight_bytes(path),
        context_length=_number(shape, "max_position_embeddings", "n_positions", "max_seq_len") or DEFAULT_CONTEXT,
        vocab_size=_number(shape, "vocab_size"),
        embedding_size=_number(shape, "hidden_size", "n_embd", "d_model"),
        layers=layers,
        kv_bytes_per_token=kv_bytes,
        task="embed" if model_type in EMBEDDING_TYPES else "generate",
        bos_token=_token_text(tokenizer.get("bos_token")),
        eos_token=_token_text(tokenizer.get("eos_token")),
        add_bos=bool(tokenizer.get("add_bos_token", False)),
        eos_token_ids=_end_ids(config, generation, tokenizer),
        default_sampling=_sampling(generation),
        files=files,
        refs=file_refs(files),
    )


def _number(config: dict[str, Any], *keys: str) -> int:
    """The first of the keys that holds a positive whole number; 0 when none does."""
    values = (config.get(key) for key in keys)
    return next((value for value in values if isinstance(value, int) and value > 0), 0)


def _count_kv(config: dict[str, Any]) -> tuple[int, int]:
    """Layers, and bytes of keys and values of one token over all of them."""
    layers = _number(config, "num_hidden_layers", "n_layer")
    heads = _number(config, "num_attention_heads", "n_head")
    head_size = _number(config, "head_dim") or (_number(config, "hidden_size", "n_embd") // heads if heads else 0)
    kv_heads = _number(config, "num_key_value_heads") or heads
    if rank := _number(config, "kv_lora_rank"):  # latent attention keeps one short vector per token and layer
        return layers, KV_BYTES * layers * (rank + _number(config, "qk_rope_head_dim"))
    return layers, KV_BYTES * layers * kv_heads * head_size * 2


def _token_text(token: Any) -> str:
    """A special token stands as text or as an object with the text in `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _end_ids(config: dict[str, Any], generation: dict[str, Any], tokenizer: dict[str, Any]) -> tuple[int, ...]:
    """End ids of both configs, and the id of the tokenizer's own end token."""
    ids: set[int] = set()
    for value in (config.get("eos_token_id"), generation.get("eos_token_id")):
        ids.update(entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, int))
    eos_text = _token_text(tokenizer.get("eos_token"))
    added = tokenizer.get("added_tokens_decoder")
    for number, token in (added if isinstance(added, dict) else {}).items():
        if eos_text and _token_text(token) == eos_text and str(number).isdigit():
            ids.add(int(number))
    return tuple(sorted(ids))


def _sampling(generation: dict[str, Any]) -> Sampling:
    if generation.get("do_sample") is False:
        return Sampling(temperature=0.0)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return read_sampling({name: generation.get(name) for name in names})

"""What is known of a model from its files alone, before any engine has loaded it."""

from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.requests import FileRef, Sampling, Task


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Facts of one model; made by `models/`, used by engines to load it and to write the model card."""

    path: Path
    """The file or folder that the engine loads."""
    name: str
    """Default served name: the file or folder name without its ending."""
    architecture: str
    size_bytes: int
    """Bytes of weights."""
    context_length: int
    """Context that the model was trained for."""
    vocab_size: int
    embedding_size: int
    layers: int = 0
    kv_bytes_per_token: int = 0
    """Keys and values of one token over all layers at 16 bit."""
    task: Task = "generate"
    bos_token: str = ""
    eos_token: str = ""
    add_bos: bool = False
    eos_token_ids: tuple[int, ...] = ()
    """All ids that end a turn."""
    default_sampling: Sampling = field(default_factory=Sampling)
    files: dict[str, bytes] = field(default_factory=dict)
    """Bytes by card name (`tokenizer.json`, `chat_template.jinja`, `tool_chat_template.jinja`)."""
    refs: dict[str, FileRef] = field(default_factory=dict)
    """Digests and sizes of `files`, as they go into the card."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What the user asked of one engine instance."""

    served_name: str
    context_length: int | None = None
    """None: the model's own, bounded by memory."""
    task: Task | None = None
    """None: what the model is made for."""
    args: dict[str, str] = field(default_factory=dict)
    """`--engine-arg K=V`; an unknown key is an error that names the known ones."""
    transfer_dir: Path | None = None
    """Folder that the workers of this box share for KV caches on their way; None: there is none."""
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None

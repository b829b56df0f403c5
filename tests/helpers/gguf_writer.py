"""A small writer of GGUF files for tests: new vocabularies on the weights of the demo model."""

import struct
from pathlib import Path
from typing import Any

from appliance.models.demo import demo_model_path
from appliance.models.gguf import read_gguf

ALIGNMENT = 32


def retokenize_demo(target: Path, changes: dict[str, Any]) -> Path:
    """Copy the demo model with other metadata; None as a value removes the key."""
    source = read_gguf(demo_model_path())
    metadata = {key: value for key, value in {**source.metadata, **changes}.items() if value is not None}
    head = [b"GGUF", struct.pack("<IQQ", 3, len(source.tensors), len(metadata))]
    head += [_text(key) + _value(value) for key, value in metadata.items()]
    for tensor in source.tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        head.append(_text(tensor.name) + shape + struct.pack("<IQ", tensor.type, tensor.offset))
    data = b"".join(head)
    padding = b"\0" * (-len(data) % ALIGNMENT)
    target.write_bytes(data + padding + demo_model_path().read_bytes()[source.data_start :])
    return target


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """A value with its type number: 7 bool, 4 unsigned, 6 float, 8 string, 9 array."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
        case [float(), *_]:
            return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)

"""Weight files of a model folder: their size, and whether each is whole."""

import json
import struct
from pathlib import Path

from appliance.core.errors import ModelFileBad

MAX_HEADER = 100 << 20  # bound of the format itself


def weight_bytes(folder: Path) -> int:
    """Bytes of all weights in a folder; 0 when it holds none. Raises `ModelFileBad` for a truncated file."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return sum(_check_safetensors(file) for file in files)
    return sum(file.stat().st_size for file in folder.glob("*.bin"))


def _check_safetensors(path: Path) -> int:
    """Size of one file's tensor data, after checking that all of it is there."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(path, file.read(8), size)
            offsets = json.loads(file.read(header))
    except OSError as error:
        raise ModelFileBad(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ModelFileBad(f"{path} is damaged: its header is no valid JSON") from None
    try:
        needed = max((entry["data_offsets"][1] for name, entry in offsets.items() if name != "__metadata__"), default=0)
        data_bytes = int(needed)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ModelFileBad(f"{path} is damaged: its header does not say where its tensors lie") from None
    if 8 + header + data_bytes > size:
        raise ModelFileBad(f"model {path} is truncated: it has {size} of {8 + header + data_bytes} bytes")
    return data_bytes


def _read_header(path: Path, start: bytes, size: int) -> int:
    length: int = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
    if length > MAX_HEADER:
        raise ModelFileBad(f"{path} is no safetensors file")
    if 8 + length > size:
        raise ModelFileBad(f"model {path} is truncated: it has {size} bytes and its header alone needs {8 + length}")
    return length

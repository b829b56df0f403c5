"""How large a model is on disk, without reading it."""

from pathlib import Path

WEIGHT_SUFFIXES = (".gguf", ".safetensors")


def weights_bytes(path: Path) -> int:
    """Bytes of weights behind a model path (a file, or a folder of weight files); 0 when there are none."""
    try:
        if path.is_file():
            return path.stat().st_size
        return sum(one.stat().st_size for one in path.iterdir() if one.suffix in WEIGHT_SUFFIXES)
    except OSError:
        return 0

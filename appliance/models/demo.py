"""The tiny model that is shipped inside the package, for `serve` without a model and for tests."""

from pathlib import Path

DEMO_NAME = "tiny-demo"


def demo_model_path() -> Path:
    """Path of the shipped GGUF file; inside a frozen executable it lies in the unpacked bundle beside this module."""
    return Path(__file__).parent / "demo" / f"{DEMO_NAME}.gguf"

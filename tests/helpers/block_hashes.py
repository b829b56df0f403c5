"""The implementations of block hashes, by name."""

from types import ModuleType

import pytest

from appliance.routing import python_hashes

BOTH = ("python", "native")


def implementation(kind: str) -> ModuleType:
    """A module with `hash_blocks` and `chain_hashes`. Skips where the native one was not built."""
    if kind == "python":
        return python_hashes
    try:
        from appliance.routing.native import block_tree
    except ImportError:
        pytest.skip("native block hashes were not built: `make venv` does it, with a C compiler")
    return block_tree

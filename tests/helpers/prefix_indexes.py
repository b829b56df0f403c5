"""The implementations of the prefix index, by name."""

import pytest

from appliance.routing.prefix_index import PrefixIndex, is_native, new_index
from appliance.routing.run_index import RunIndex

BOTH = ("python", "native")


def make_index(kind: str) -> PrefixIndex:
    """An empty index. Skips where the native one was not built."""
    if kind == "python":
        return RunIndex()
    if not is_native():
        pytest.skip("the native prefix index was not built: `make venv` does it, with a C compiler")
    return new_index()


def available() -> tuple[str, ...]:
    """Those that can be made here."""
    return BOTH if is_native() else BOTH[:1]

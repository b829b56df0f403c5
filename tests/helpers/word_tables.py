"""The implementations of the table of words, by name, and what they find in a form that can be compared."""

from collections.abc import Sequence

import pytest

from appliance.preprocess.word_table import PythonWordTable, WordTable, is_native, new_table


def make_native() -> WordTable:
    """An empty native table. Skips where it was not built."""
    if not is_native():
        pytest.skip("the native table of words was not built: `make venv` does it, with a C compiler")
    return new_table()


MAKERS = {"python": PythonWordTable, "native": make_native}


def found_parts(found: list[int] | tuple[str | None, list[Sequence[int] | str], str | None] | None) -> object:
    """An answer of `find` with the ids between two missing words in one list, however they were grouped."""
    if not isinstance(found, tuple):
        return found
    first, pieces, last = found
    joined: list[str | list[int]] = []
    for piece in pieces:
        if isinstance(piece, str):
            joined.append(piece)
        elif joined and isinstance(joined[-1], list):
            joined[-1] += piece
        else:
            joined.append(list(piece))
    return first, [piece for piece in joined if piece != []], last

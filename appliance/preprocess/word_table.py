"""Token ids by word, and what is known of a text: in C where that was built here, else the twin in Python.

`find` cuts a text into parts (`word_cuts.py`). The first and the last one are ends, looked up in a table of their own,
the last with the space in front of it; those between are words, without a space.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Protocol, Self

from appliance.preprocess.word_cuts import cut_words

Piece = Sequence[int] | str
"""Ids of words that are known, or the text of one that is not."""
Found = list[int] | tuple[str | None, list[Piece], str | None]
"""All ids of a text; or the first end, when it is missing, the pieces, and the last end, when it is missing.

Ends that are known are in the pieces."""


class WordTable(Protocol):
    """Ids of parts of texts. May be used from several threads at once."""

    def find(self, text: str, ends: Self, /) -> Found | None:
        """What is known of a text; None when it has no words between its ends."""

    def add(self, part: str, ids: Sequence[int], /) -> None:
        """Remember the ids of a part; of one that is known the old ones stay."""

    def __len__(self) -> int:
        """How many parts are known."""


class PythonWordTable:
    """A `WordTable`; its docstrings say what the operations do."""

    def __init__(self) -> None:
        self._known: dict[str, Sequence[int]] = {}

    def find(self, text: str, ends: "PythonWordTable", /) -> Found | None:
        """What is known of a text."""
        known = self._known
        parts = cut_words(text, known)
        if len(parts) < 3:
            return None
        first, *words, last = parts
        last = " " + last
        first_ids, last_ids = ends._known.get(first), ends._known.get(last)
        if first_ids is not None and last_ids is not None:
            try:
                return [*first_ids, *chain.from_iterable(map(known.__getitem__, words)), *last_ids]
            except KeyError:
                pass
        pieces: list[Piece] = [known.get(word, word) for word in words]
        if first_ids is not None:
            pieces.insert(0, first_ids)
        if last_ids is not None:
            pieces.append(last_ids)
        return first if first_ids is None else None, pieces, last if last_ids is None else None

    def add(self, part: str, ids: Sequence[int], /) -> None:
        """Remember the ids of a part."""
        self._known.setdefault(part, tuple(ids))

    def __len__(self) -> int:
        """How many parts are known."""
        return len(self._known)


def new_table() -> WordTable:
    """An empty table: the native one where it was built, else its twin in Python."""
    return _CLASS()


def is_native() -> bool:
    """Whether tables are native."""
    return _CLASS is not PythonWordTable


def _choose() -> type[WordTable]:
    try:
        from appliance.preprocess.native.word_table import WordTable as NativeWordTable
    except ImportError:  # not built: there was no compiler
        return PythonWordTable
    return NativeWordTable


_CLASS = _choose()

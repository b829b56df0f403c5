"""Remembers the token ids of words, so that prompts which reuse words are not tokenized again.

Here is what is learnt and for how long; the table itself is in `word_table.py`, where texts are cut in `word_cuts.py`.
"""

from collections.abc import Callable, Iterable
from itertools import islice

from appliance.preprocess.word_table import Piece, WordTable, new_table

MAX_WORDS = 1 << 16  # about 9 MB of words and ids
MAX_WORD_CHARS = 64  # longer parts are rarely met again
MAX_ENDS = 1 << 13
MAX_END_CHARS = 256  # template marks of a turn and the word beside them
MAX_NEW_WORDS = 128  # encoded one by one within one call, about 1 ms; with more the whole text is encoded at once
MIN_CHARS = 200  # shorter texts are encoded as fast without the cache

Encode = Callable[[str], list[int]]


class WordCache:
    """Token ids by word. May be used from several threads at once."""

    def __init__(self, encode: Encode, make_table: Callable[[], WordTable] = new_table) -> None:
        """`encode` gives the ids of a text without the cache."""
        self._encode = encode
        self._make_table = make_table
        self._known = make_table()
        self._ends = make_table()
        """First parts of texts, and last ones with the space in front: chats begin and end with the same marks."""

    def lookup(self, text: str) -> list[int] | None:
        """The ids of a text of which nearly all words are known; None when encoding it whole is cheaper.

        Learns some of the words that were missing, also when it answers None.
        """
        if len(text) < MIN_CHARS:
            return None
        found = self._known.find(text, self._ends)
        return self._complete(*found) if isinstance(found, tuple) else found

    def _complete(self, first: str | None, pieces: list[Piece], last: str | None) -> list[int] | None:
        """All ids of a text of which some are missing."""
        missing = dict.fromkeys(piece for piece in pieces if isinstance(piece, str))
        fresh = self._learn(missing) if missing else {}
        if fresh is None:
            return None
        ids = [] if first is None else self._encode_end(first)
        for piece in pieces:
            ids.extend(fresh[piece] if isinstance(piece, str) else piece)
        if last is not None:
            ids.extend(self._encode_end(last))
        return ids

    def _encode_end(self, part: str) -> list[int]:
        ids = self._encode(part)
        if len(part) <= MAX_END_CHARS:
            if len(self._ends) >= MAX_ENDS:
                self._ends = self._make_table()
            self._ends.add(part, ids)
        return ids

    def _learn(self, missing: Iterable[str]) -> dict[str, list[int]] | None:
        """Encode missing words and keep those of ordinary length; None when they were too many to take all."""
        words = iter(missing)
        fresh = {word: self._encode(" " + word) for word in islice(words, MAX_NEW_WORDS)}
        if len(self._known) + len(fresh) > MAX_WORDS:
            self._known = self._make_table()
        known = self._known
        for word, ids in fresh.items():
            if len(word) <= MAX_WORD_CHARS:
                known.add(word, ids)
        return fresh if next(words, None) is None else None

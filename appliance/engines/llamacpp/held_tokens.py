"""Recovery of token ids that llama.cpp does not report.

Its server holds back a token whose text ends inside a UTF-8 character, and then reports only the token that completes
the character: the text is whole, the ids before the last are missing. They are found again by tokenizing that text.
"""

from collections.abc import Callable

Pieces = Callable[[str], list[tuple[int, bytes]]]
"""Tokens of a text, each with its bytes."""
KEPT_ANSWERS = 4096


class HeldTokens:
    """Finds the ids behind the text of a message that stands for several. Called from several threads."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._known: dict[tuple[int, str], tuple[int, ...]] = {}

    def drawn(self, last: int, text: str) -> list[int]:
        """Ids that give `text`; `last` is the one that the engine reported. Raises what the tokenizer raises.

        The text is always right. Should the model have split it in another way than its tokenizer does, ids differ from
        those drawn, which costs the reuse of a few cached tokens and nothing else.
        """
        key = (last, text)
        if (found := self._known.get(key)) is None:
            if len(self._known) >= KEPT_ANSWERS:
                self._known.clear()
            found = self._known[key] = tuple(_ids(self._pieces(text), text.encode())) or (last,)
        return list(found)


def _ids(pieces: list[tuple[int, bytes]], wanted: bytes) -> list[int]:
    """Ids of the pieces, without the space that some tokenizers put in front of any text."""
    while pieces and b"".join(piece for _, piece in pieces) != wanted:
        pieces = pieces[1:]
    return [token for token, _ in pieces]

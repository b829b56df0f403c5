"""Remembers the token ids of words, so that prompts which reuse words are not tokenized again.

A cut before a space that follows a letter, digit or printable ASCII sign is a cut that the pre-tokenizers of byte-level
BPE make as well: none of their matches goes from a non-space on over a space. So the parts of a text between such cuts
can be encoded one by one. `can_cut_words` finds out whether that holds for a given tokenizer.
"""

import re
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any, Protocol

from appliance.preprocess.token_table import AddedToken, TokenizerDocument

MAX_WORDS = 1 << 16  # about 15 MB of keys and ids
MAX_WORD_CHARS = 64  # longer parts are rarely met again
MAX_ENDS = 1 << 13
MAX_END_CHARS = 256  # template marks of a turn and the word beside them
MAX_NEW_WORDS = 128  # encoded one by one within one call, about 1 ms; with more the whole text is encoded at once
MIN_CHARS = 200  # shorter texts are encoded as fast without the cache

PROBES = (
    *(
        "a",
        "B",
        "1",
        "42",
        "ab",
        "aB",
        "Ab",
        "AB",
        "a1",
        "1a",
        "a.",
        ".a",
        "1.2",
        "\u00e9",
        "\u00e9.",
        "\u00bd",
        "\u00b2",
    ),
    *(
        "\u4e2d",
        "\u3042",
        "\ud55c",
        "\u0627",
        "\u0301",
        "\u200b",
        "\u200d",
        "\u2014",
        "\u2026",
        "\u201c",
        "\U0001f600",
        "\ufeff",
    ),
    *(".", ",", "!?", "(", ")", "<", ">", "#", "$", "_", "-", '"', " /", "'", "'s", "'S", "'ll", "'a", "a'"),
    *(
        "x\n",
        "x\r\n",
        "x\t",
        "\n",
        "\n\n",
        "\n.",
        " \n",
        "\t",
        "\r\n",
        "a\n\nb",
        "\u00a0.",
        "\u00a0",
        "\u3000",
        " ",
        "",
    ),
)
"""Ends and beginnings of words between which a cut is tried."""

Encode = Callable[[str], list[int]]


class PreTokenize(Protocol):
    """The pre-tokenizer of a tokenizer."""

    def pre_tokenize_str(self, sequence: str) -> list[tuple[str, Any]]: ...


def can_cut_words(document: TokenizerDocument, pre_tokenizer: PreTokenize | None) -> bool:
    """Whether texts of this tokenizer may be encoded word by word."""
    if document.model.type != "BPE" or pre_tokenizer is None or not _keeps_characters(document.normalizer):
        return False
    return all(map(_stays_within_a_word, document.added_tokens)) and _cuts_before_spaces(pre_tokenizer)


def _keeps_characters(normalizer: dict[str, Any] | None) -> bool:
    """Normal forms never join a character with a space, so they may be taken part by part."""
    return normalizer is None or normalizer.get("type") in ("NFC", "NFKC", "NFD", "NFKD")


def _stays_within_a_word(token: AddedToken) -> bool:
    """No match of the token can go over a cut or depends on what follows one."""
    return not token.single_word and not token.rstrip and re.search(r"\S ", token.content) is None


def _cuts_before_spaces(pre_tokenizer: PreTokenize) -> bool:
    """Try all pairs of probes: cutting the joined text must give the pieces of both sides."""

    def pieces(text: str) -> list[str]:
        return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]

    lefts = {probe: pieces(probe) for probe in PROBES if _ends_clean(probe)}
    rights = {probe: pieces(" " + probe) for probe in PROBES}
    return all(
        pieces(f"{left} {right}") == left_pieces + right_pieces
        for left, left_pieces in lefts.items()
        for right, right_pieces in rights.items()
    )


def _ends_clean(part: str) -> bool:
    """The part ends with a character that is no white space under any definition of it."""
    return part != "" and ("!" <= part[-1] <= "~" or part[-1].isalnum())


class WordCache:
    """Token ids by word. May be used from several threads at once."""

    def __init__(self, encode: Encode) -> None:
        """`encode` gives the ids of a text without the cache."""
        self._encode = encode
        self._known: dict[str, tuple[int, ...]] = {}
        self._ends: dict[str, list[int]] = {}
        """First parts of texts, and last ones with the space in front: chats begin and end with the same marks."""

    def lookup(self, text: str) -> list[int] | None:
        """The ids of a text of which nearly all words are known; None when encoding it whole is cheaper.

        Learns some of the words that were missing, also when it answers None.
        """
        if len(text) < MIN_CHARS:
            return None
        parts = text.split(" ")
        known = self._known
        if not all(map(_ends_clean, set(parts[:-1]) - known.keys())):
            parts = _join_unclean(parts)
        if len(parts) < 3:
            return None
        first, last = parts[0], parts.pop()
        del parts[0]
        missing = set(parts) - known.keys()
        fresh = self._learn(missing) if missing else {}
        if fresh is None:
            return None
        ids = self._encode_end(first).copy()
        if fresh:
            ids.extend(chain.from_iterable(fresh[word] if word in fresh else known[word] for word in parts))
        else:
            ids.extend(chain.from_iterable(map(known.__getitem__, parts)))
        ids.extend(self._encode_end(" " + last))
        return ids

    def _encode_end(self, part: str) -> list[int]:
        ids = self._ends.get(part)
        if ids is None:
            ids = self._encode(part)
            if len(part) <= MAX_END_CHARS:
                if len(self._ends) >= MAX_ENDS:
                    self._ends = {}
                self._ends[part] = ids
        return ids

    def _learn(self, missing: set[str]) -> dict[str, tuple[int, ...]] | None:
        """Encode missing words and keep those of ordinary length; None when they were too many to take all."""
        fresh = {word: tuple(self._encode(" " + word)) for word in islice(missing, MAX_NEW_WORDS)}
        if len(self._known) + len(fresh) > MAX_WORDS:
            self._known = {}  # a new one, because other threads may be reading the old
        self._known.update((word, ids) for word, ids in fresh.items() if len(word) <= MAX_WORD_CHARS)
        return fresh if len(fresh) == len(missing) else None


def _join_unclean(parts: Iterable[str]) -> list[str]:
    """Join each part that has no clean end with what follows it."""
    joined: list[str] = []
    held: str | None = None
    for part in parts:
        whole = part if held is None else f"{held} {part}"
        held = None if _ends_clean(part) else whole
        if held is None:
            joined.append(whole)
    return joined if held is None else [*joined, held]

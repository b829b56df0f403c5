"""Where a text may be cut into words that can be encoded one by one, and for which tokenizers that holds.

A cut before a space that follows a letter, digit or printable ASCII sign is a cut that the pre-tokenizers of byte-level
BPE make as well: none of their matches goes from a non-space on over a space. So the parts of a text between such cuts
can be encoded one by one. `can_cut_words` finds out whether that holds for a given tokenizer.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from appliance.preprocess.token_table import AddedToken, TokenizerDocument

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

    lefts = {probe: pieces(probe) for probe in PROBES if ends_clean(probe)}
    rights = {probe: pieces(" " + probe) for probe in PROBES}
    return all(
        pieces(f"{left} {right}") == left_pieces + right_pieces
        for left, left_pieces in lefts.items()
        for right, right_pieces in rights.items()
    )


def ends_clean(part: str) -> bool:
    """The part ends with a character that is no white space under any definition of it."""
    return part != "" and ("!" <= part[-1] <= "~" or part[-1].isalnum())


def cut_words(text: str, clean: Mapping[str, object]) -> list[str]:
    """The parts of a text between all places where it may be cut, which is at spaces behind a clean end.

    `clean`: words that are known to end clean, for the sake of speed.
    """
    parts = text.split(" ")
    if all(map(ends_clean, set(parts[:-1]).difference(clean))):
        return parts
    return _join_unclean(parts)


def _join_unclean(parts: Iterable[str]) -> list[str]:
    """Join each part that has no clean end with what follows it."""
    joined: list[str] = []
    held: str | None = None
    for part in parts:
        whole = part if held is None else f"{held} {part}"
        held = None if ends_clean(part) else whole
        if held is None:
            joined.append(whole)
    return joined if held is None else [*joined, held]

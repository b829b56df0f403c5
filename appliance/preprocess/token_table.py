"""What each token id stands for in bytes, taken from a `tokenizer.json` whose decoder works on bytes.

Two families are understood: byte-level BPE, where each character of a token stands for one byte, and SentencePiece,
where a mark stands for a space and `<0xNN>` tokens for single bytes. For all others there is no table.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class AddedToken(msgspec.Struct):
    """A token that is cut out of text before anything else."""

    id: int
    content: str
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


class _Model(msgspec.Struct):
    type: str = ""
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class TokenizerDocument(msgspec.Struct):
    """The parts of a `tokenizer.json` that are read here."""

    model: _Model
    added_tokens: list[AddedToken] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


@dataclass(frozen=True)
class TokenTable:
    """Tokens by id; ids that no token has are empty."""

    octets: list[bytes]
    texts: list[str | None]
    """The token's text; None when its bytes are no whole characters."""
    special: frozenset[int]
    """Ids that are left out of shown text."""
    strips_first_space: bool
    """The decoder drops one space at the very start of a text."""

    def shown_texts(self) -> list[str | None]:
        """`texts` with the special ids empty."""
        return ["" if token_id in self.special else text for token_id, text in enumerate(self.texts)]

    def shown_octets(self) -> list[bytes]:
        """`octets` with the special ids empty."""
        return [b"" if token_id in self.special else octets for token_id, octets in enumerate(self.octets)]


def build_table(document: TokenizerDocument) -> TokenTable | None:
    """The table of a tokenizer; None when its decoder does not work token by token on bytes."""
    decoders = _flatten(document.decoder, "decoders")
    kinds = [decoder.get("type") for decoder in decoders]
    if "ByteLevel" in kinds:
        encode, strips = _byte_level, False
    elif kinds and set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"} and _replaces_mark(decoders):
        encode = _marked_with_bytes if "ByteFallback" in kinds else _marked
        strips = any(_strips_one_space(decoder) for decoder in decoders)
    else:
        return None
    vocabulary = document.model.vocab
    entries = vocabulary.items() if isinstance(vocabulary, dict) else ((t, i) for i, (t, _) in enumerate(vocabulary))
    found = {token_id: encode(text) for text, token_id in entries}
    found |= {token.id: token.content.encode() for token in document.added_tokens}
    octets = [found.get(token_id, b"") for token_id in range(max(found, default=-1) + 1)]
    special = frozenset(token.id for token in document.added_tokens if token.special)
    return TokenTable(octets, [_whole_text(entry) for entry in octets], special, strips)


def _flatten(part: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """A part that is a sequence as its members, any other as itself."""
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [leaf for member in part.get(key, []) for leaf in _flatten(member, key)]


def _replaces_mark(decoders: list[dict[str, Any]]) -> bool:
    replacing = [decoder for decoder in decoders if decoder["type"] == "Replace"]
    return [(one.get("pattern"), one.get("content")) for one in replacing] == [({"String": "\u2581"}, " ")]


def _strips_one_space(decoder: dict[str, Any]) -> bool:
    return decoder["type"] == "Strip" and decoder.get("content") == " " and decoder.get("start") == 1


def _byte_characters() -> dict[int, int]:
    """From the character that byte-level vocabularies write for a byte, to the byte.

    Printable bytes stand for themselves; the others follow in order from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {0x100 + place: byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_characters()
_STANDS_FOR_A_BYTE = re.compile("[" + "".join(re.escape(chr(code)) for code in _BYTE_OF) + "]*")


def _byte_level(token: str) -> bytes:
    if not _STANDS_FOR_A_BYTE.fullmatch(token):
        return token.encode("utf-8", "replace")
    return token.translate(_BYTE_OF).encode("latin-1")


def _marked(token: str) -> bytes:
    return token.replace("\u2581", " ").encode("utf-8", "replace")


def _marked_with_bytes(token: str) -> bytes:
    match = BYTE_TOKEN.match(token)
    return bytes.fromhex(match[1]) if match else _marked(token)


def _whole_text(octets: bytes) -> str | None:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None

"""Builds a `tokenizer.json` from a GGUF vocabulary, equal to the embedded engine's own tokenizer.

Where equality is not certain the answer is None: the front end then asks the worker over the link.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.models.gguf_vocab import HIDDEN, TokenKind, Vocabulary
from appliance.models.pre_tokenizers import PRE_TOKENIZERS
from appliance.models.score_merges import merges_from_scores

SPACE_MARK = "\u2581"
"""Stands for a space in SentencePiece vocabularies."""

SPACE_MARKED = ("llama", "t5", "plamo2", "gemma4")
"""Kinds whose tokens write a space as the mark, and rare characters as bytes."""

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}

STRIPPING_MODELS = ("phi-3", "phi3", "modern-bert")
"""Names of models whose special tokens swallow white space beside them in the engine; not expressed here."""


def build_tokenizer(vocabulary: Vocabulary, model_name: str) -> bytes | None:
    """The bytes of a `tokenizer.json`, or None when the vocabulary's kind is not known to be equal."""
    if any(name in model_name.lower() for name in STRIPPING_MODELS):
        return None
    if vocabulary.kind == "gpt2":
        document = _byte_level(vocabulary)
    elif vocabulary.kind == "llama":
        document = _sentence_piece(vocabulary)
    else:
        document = None
    return None if document is None else _encode(document)


def build_detokenizer(vocabulary: Vocabulary) -> bytes | None:
    """A `tokenizer.json` that only decodes, for vocabularies whose text the worker tokenizes; None: not even that.

    How text is cut into tokens differs from model to model; what a token says depends on the kind alone.
    """
    if vocabulary.kind == "gpt2":
        parts: dict[str, Any] = {"decoder": BYTE_LEVEL}
    elif vocabulary.kind in SPACE_MARKED:
        parts = {"decoder": _space_marked(strip=vocabulary.add_space_prefix)}
    else:
        return None
    return _encode(_document(vocabulary, model={"vocab": _ids(vocabulary.tokens), "merges": []}, **parts))


def _encode(document: dict[str, Any]) -> bytes | None:
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # tokens that are no valid UTF-8 cannot stand in JSON
        return None


def _space_marked(*, strip: bool) -> dict[str, Any]:
    """The decoder of vocabularies that mark spaces and spell rare characters as bytes."""
    stripping = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else []
    replacing = {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "}
    return {"type": "Sequence", "decoders": [replacing, {"type": "ByteFallback"}, {"type": "Fuse"}, *stripping]}


def _byte_level(vocabulary: Vocabulary) -> dict[str, Any] | None:
    pre = PRE_TOKENIZERS.get(vocabulary.pre)
    merges = _read_merges(vocabulary)
    if pre is None or merges is None:
        return None
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in pre.patterns
    ]
    return _document(
        vocabulary,
        model={"vocab": _ids(vocabulary.tokens), "merges": merges, "ignore_merges": pre.whole_words},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*splits, BYTE_LEVEL]},
        decoder=BYTE_LEVEL,
    )


def _sentence_piece(vocabulary: Vocabulary) -> dict[str, Any] | None:
    ids = _ids(vocabulary.tokens)
    merges = merges_from_scores(vocabulary)
    if merges is None or not all(f"<0x{byte:02X}>" in ids for byte in range(256)):
        return None
    replace_spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    prepend = [{"type": "Prepend", "prepend": SPACE_MARK}] if vocabulary.add_space_prefix else []
    return _document(
        vocabulary,
        model={"vocab": ids, "merges": merges, "byte_fallback": True},
        normalizer={"type": "Sequence", "normalizers": [*prepend, replace_spaces]},
        decoder=_space_marked(strip=vocabulary.add_space_prefix),
    )


def _document(vocabulary: Vocabulary, *, model: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    defaults = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        **parts,
        "model": {**defaults, **model},
    }


def _added_tokens(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Tokens that are cut out of text before anything else; the hidden ones only where special tokens are parsed."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": token_id, "content": text, **plain, "special": kind in HIDDEN}
        for token_id, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind in HIDDEN or kind is TokenKind.USER_DEFINED
    ]


def _read_merges(vocabulary: Vocabulary) -> list[tuple[str, str]] | None:
    """Merge pairs in order; None when one of them makes a token that the vocabulary does not have."""
    tokens = set(vocabulary.tokens)
    pairs: dict[tuple[str, str], None] = {}
    for merge in vocabulary.merges:
        cut = merge.find(" ", 1)
        left, right = merge[:cut], merge[cut + 1 :]
        if cut < 0 or left not in tokens or right not in tokens or left + right not in tokens:
            return None
        pairs.setdefault((left, right))
    return list(pairs)


def _ids(tokens: Sequence[str]) -> dict[str, int]:
    return {text: token_id for token_id, text in enumerate(tokens)}

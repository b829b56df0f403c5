"""The vocabulary of a GGUF file as the embedded engine sees it: tokens, their kinds, special ids, end-of-turn ids.

The engine overrides what a file says about some tokens by their text; the same rules are applied here, because a front
end that splits special tokens differently from the engine would silently change prompts.
"""

# ruff: noqa: RUF001 -- these texts are spelled with the characters that the vocabularies have

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from appliance.core.errors import ModelFileBad


class TokenKind(IntEnum):
    """Token types as GGUF numbers them."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


HIDDEN = frozenset({TokenKind.CONTROL, TokenKind.UNKNOWN})
"""Kinds that are parsed in text only on request and never shown."""

END_TEXTS = frozenset(
    """
    <|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s>
    <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos>
    <turn|> <|tool_response> <｜end▁of▁sentence｜>
    [e~[
    """.split()  # noqa: SIM905 -- a word list stays readable
)
"""Tokens that end a turn by their text alone, whatever kind the file gives them."""

INFILL_TEXTS = frozenset(
    """
    <|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> <|prefix|>
    <|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> <|suffix|>
    <|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> <|middle|>
    """.split()  # noqa: SIM905 -- a word list stays readable
)
"""Fill-in-the-middle markers, which are control tokens by their text."""

INFILL_END_TEXTS = frozenset(
    """
    <|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>
    """.split()  # noqa: SIM905 -- a word list stays readable
)
"""Fill-in-the-middle markers that also end a turn."""

SHOWN_TEXTS = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
"""Markers that are always shown, because parsers need them."""

END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")

LLAMA3_LIKE = frozenset(
    ["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken", "chameleon"]
)
"""Pre-tokenizers whose models begin with the begin token unless the file says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens by id with everything that tokenizing and detokenizing needs."""

    kind: str
    """`gpt2`, `llama`, `bert`, `t5`, ... as the file calls it."""
    pre: str
    tokens: Sequence[str]
    kinds: Sequence[TokenKind]
    scores: Sequence[float]
    merges: Sequence[str]
    add_space_prefix: bool
    add_bos: bool
    bos_id: int | None
    eos_id: int | None
    end_ids: tuple[int, ...]
    """All ids that end a turn, ascending."""

    def text(self, token_id: int | None) -> str:
        """Text of a special token; empty when there is none."""
        return "" if token_id is None else self.tokens[token_id]


def read_vocabulary(metadata: Mapping[str, Any]) -> Vocabulary | None:
    """The vocabulary in a file's metadata; None when the file has none. Raises `ModelFileBad` on nonsense."""
    kind = str(metadata.get("tokenizer.ggml.model", "none"))
    tokens = metadata.get("tokenizer.ggml.tokens")
    if kind in ("none", "no_vocab") or not isinstance(tokens, list) or not tokens:
        return None
    tokens = _read_tokens(tokens)
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    kinds = _read_kinds(metadata, len(tokens))
    end_ids = _apply_text_rules(metadata, tokens, kinds)
    sentence_piece = kind == "llama"
    begins = sentence_piece or kind == "bert" or (kind == "gpt2" and pre in LLAMA3_LIKE)
    return Vocabulary(
        kind=kind,
        pre=pre,
        tokens=tokens,
        kinds=kinds,
        scores=_read_scores(metadata, len(tokens)),
        merges=metadata.get("tokenizer.ggml.merges", []),
        add_space_prefix=bool(metadata.get("tokenizer.ggml.add_space_prefix", sentence_piece)),
        add_bos=bool(metadata.get("tokenizer.ggml.add_bos_token", begins)),
        bos_id=_special_id(metadata, "bos_token_id", len(tokens), 1 if sentence_piece else None),
        eos_id=_special_id(metadata, "eos_token_id", len(tokens), 2 if sentence_piece else None),
        end_ids=end_ids,
    )


def _read_tokens(tokens: list[str]) -> list[str]:
    """Texts as the engine reads them: up to a zero byte, and a made-up name for an empty one.

    The engine aborts its whole process when two of them are equal, so that is found here.
    """
    texts = [text.partition("\0")[0] or f"[EMPTY_{token_id}]" for token_id, text in enumerate(tokens)]
    if len(set(texts)) != len(texts):
        [(double, _)] = Counter(texts).most_common(1)
        raise ModelFileBad(f"the model's vocabulary is damaged: token {double!r} stands in it twice")
    return texts


def _special_id(metadata: Mapping[str, Any], key: str, count: int, default: int | None = None) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}", default)
    return value if isinstance(value, int) and 0 <= value < count else None


def _read_kinds(metadata: Mapping[str, Any], count: int) -> list[TokenKind]:
    numbers = metadata.get("tokenizer.ggml.token_type")
    if numbers is None:
        return [TokenKind.NORMAL] * count
    if not isinstance(numbers, tuple) or len(numbers) < count:
        raise ModelFileBad(f"the model's vocabulary is damaged: {count} tokens, but fewer token types")
    return [TokenKind(number) if 0 <= number <= TokenKind.BYTE else TokenKind.UNDEFINED for number in numbers[:count]]


def _read_scores(metadata: Mapping[str, Any], count: int) -> Sequence[float]:
    scores = metadata.get("tokenizer.ggml.scores")
    if scores is None:
        return [0.0] * count
    if not isinstance(scores, tuple) or len(scores) < count:
        raise ModelFileBad(f"the model's vocabulary is damaged: {count} tokens, but fewer scores")
    return scores


def _apply_text_rules(metadata: Mapping[str, Any], tokens: list[str], kinds: list[TokenKind]) -> tuple[int, ...]:
    """Correct `kinds` in place by the tokens' texts; returns the ids that end a turn."""
    ends: dict[str, int] = {}
    for token_id, text in enumerate(tokens):
        if text in SHOWN_TEXTS:
            kinds[token_id] = TokenKind.USER_DEFINED
        elif text in END_TEXTS or text in INFILL_END_TEXTS:
            kinds[token_id] = TokenKind.CONTROL
            ends[text] = token_id
        elif text in INFILL_TEXTS:
            kinds[token_id] = TokenKind.CONTROL
    for key in END_KEYS:
        default = 2 if key == "eos_token_id" and metadata.get("tokenizer.ggml.model") == "llama" else None
        end_id = _special_id(metadata, key, len(tokens), default)
        if end_id is not None:
            ends[tokens[end_id]] = end_id
    _drop_false_ends(ends, kinds)
    return tuple(sorted(set(ends.values())))


def _drop_false_ends(ends: dict[str, int], kinds: list[TokenKind]) -> None:
    """Beside calls `<|end|>` closes a message and not a turn; beside tool responses `</s>` is plain text."""
    calls = ends.keys() & {"<|call|>", "<|calls|>"}
    if "<|end|>" in ends and calls and ends.keys() & {"<|return|>", "<|flush|>"}:
        kinds[ends.pop("<|end|>")] = TokenKind.USER_DEFINED
    if "<|tool_response>" in ends and "</s>" in ends:
        kinds[ends.pop("</s>")] = TokenKind.NORMAL

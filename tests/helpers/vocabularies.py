"""Vocabularies for tests: as large as the demo model's, but with tokens that cross word borders on purpose.

In an ordinary small vocabulary two tokenizers that cut words differently often give the same ids. Here nearly every
wrong cut shows.
"""

import json
from functools import cache
from random import Random
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.helpers.random_text import random_text

SIZE = 2048
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]


@cache
def crossing_bpe() -> dict[str, Any]:
    """Metadata of a byte-level BPE vocabulary learned from random text without any cut at words."""
    random = Random(1)
    texts = [random_text(random, 30) for _ in range(3000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=SPECIALS, show_progress=False, initial_alphabet=alphabet, max_token_length=6
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokens: list[str | None] = [tokenizer.id_to_token(token_id) for token_id in range(SIZE)]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.token_type": [3] * len(SPECIALS) + [1] * (SIZE - len(SPECIALS)),
    }


@cache
def sentence_piece(*, seed: int = 2, add_space_prefix: bool = True) -> dict[str, Any]:
    """Metadata of a SentencePiece vocabulary: byte tokens, characters, and joined tokens with falling scores.

    The joined tokens are learned by byte-pair merging over random text with marked spaces, so they nest and overlap as
    real ones do; a few random scores are swapped so that a token may stand before its own parts.
    """
    random = Random(seed)
    texts = ["\u2581" + random_text(random, 30).replace(" ", "\u2581").replace("\0", "") for _ in range(3000)]
    controls = ["<unk>", "<s>", "</s>", "<|user|>"]
    own = ["<tool>", "  \n"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    learned = Tokenizer(models.BPE())
    room = SIZE - len(controls) - len(own) - len(bytes_)
    learned.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=room, show_progress=False, limit_alphabet=400, max_token_length=8)
    )
    words: list[str] = [learned.id_to_token(token_id) or "" for token_id in range(room)]
    scores = [-float(rank) for rank in range(room)]
    for _ in range(60):
        a, b = random.randrange(room), random.randrange(room)
        scores[a], scores[b] = scores[b], scores[a]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": controls + bytes_ + words + own,
        "tokenizer.ggml.scores": [0.0] * (len(controls) + len(bytes_)) + scores + [-1000.0] * len(own),
        "tokenizer.ggml.token_type": [2, 3, 3, 3] + [6] * 256 + [1] * room + [4] * len(own),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": None,
        "tokenizer.ggml.padding_token_id": None,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": add_space_prefix,
    }

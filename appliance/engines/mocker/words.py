"""The tokens that the mocker answers with: a prepared text, or words drawn from the tokenizer's vocabulary."""

import random
import re
from typing import Protocol

import msgspec
from tokenizers import Tokenizer

from appliance.core.errors import EngineFailed, UsageError
from appliance.core.model_facts import ModelFacts

WORD = re.compile(r"[Ġ▁][a-z]{2,}")  # both usual ways of writing a blank in front of a word
FEWEST_WORDS = 16
PORTION = 64  # tokens drawn at once
ROW_WORDS = 16384
# Odd 64-bit factors whose bits are well mixed: portions of one stream, and streams of near seeds, start far apart.
MIX_SEED = 0x9E3779B97F4A7C15
MIX_PORTION = 0xBF58476D1CE4E5B9


class Reasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Output that begins with thoughts."""

    start_thinking_token_id: int
    end_thinking_token_id: int
    thinking_ratio: float
    """Share of the most tokens that an answer may have, 0 to 1."""


class TokenSource(Protocol):
    """Endless supply of output tokens of one stream."""

    ends: int | None
    """Number of tokens after which the text is over; None: never."""

    def draw(self, index: int) -> list[int]:
        """Output tokens from an index on, at least one; always the same for the same index."""


class ScriptedTokens:
    """The prepared text, over and over."""

    def __init__(self, token_ids: list[int]) -> None:
        self.ends: int | None = len(token_ids)
        self._token_ids = token_ids

    def draw(self, index: int) -> list[int]:
        """See `TokenSource.draw`."""
        return self._token_ids[index % len(self._token_ids) :]


class RandomTokens:
    """Words by chance, cut from a long row of them.

    Which one stands at a place depends on the seed and on the place in the whole sequence only, so that a stream which
    is started again, with its output so far as part of the prompt, goes on as it would have.
    """

    ends: int | None = None

    def __init__(self, row: list[int], seed: int, prompt_tokens: int) -> None:
        self._row = row
        self._seed = seed
        self._prompt_tokens = prompt_tokens

    def draw(self, index: int) -> list[int]:
        """See `TokenSource.draw`."""
        portion, skipped = divmod(self._prompt_tokens + index, PORTION)
        mixed = (self._seed * MIX_SEED + portion * MIX_PORTION) % 2**64
        start = ((mixed ^ mixed >> 29) * MIX_SEED >> 17) % (len(self._row) - PORTION)
        return self._row[start + skipped : start + PORTION]


class ThinkingTokens:
    """Thoughts between two marks, then an answer; both from another source."""

    def __init__(self, source: TokenSource, reasoning: Reasoning, max_tokens: int) -> None:
        self._source = source
        self._reasoning = reasoning
        self._last_thought = int(reasoning.thinking_ratio * max_tokens)
        self.ends = None if source.ends is None else source.ends + self._last_thought + 2

    def draw(self, index: int) -> list[int]:
        """See `TokenSource.draw`."""
        if index == 0:
            return [self._reasoning.start_thinking_token_id]
        closing = self._last_thought + 1
        if index == closing:
            return [self._reasoning.end_thinking_token_id]
        if index < closing:
            return self._source.draw(index)[: closing - index]
        return self._source.draw(index - closing - 1)


class Vocabulary:
    """What a model's tokenizer offers to the mocker. Making one reads the whole tokenizer and takes a moment."""

    def __init__(self, facts: ModelFacts) -> None:
        self._tokenizer = facts.files.get("tokenizer.json")
        self.words = _words(facts, self._tokenizer)
        self.row = random.Random(0).choices(self.words, k=ROW_WORDS)
        """Words in a random order that is the same in every worker of a model."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of an answer text. Raises `UsageError` without a tokenizer, or when nothing is left of the text."""
        if self._tokenizer is None:
            raise UsageError("engine argument text of mocker needs a model with a tokenizer.json")
        token_ids: list[int] = Tokenizer.from_buffer(self._tokenizer).encode(text, add_special_tokens=False).ids
        if not token_ids:
            raise UsageError("engine argument text of mocker has no tokens")
        return token_ids


class _Model(msgspec.Struct):
    vocab: dict[str, int]


class _Tokenizer(msgspec.Struct):
    model: _Model


def _words(facts: ModelFacts, tokenizer: bytes | None) -> list[int]:
    """Ids of plain lower-case words; of anything but end tokens where there are hardly any."""
    words: list[int] = []
    if tokenizer is not None:
        try:
            vocabulary = msgspec.json.decode(tokenizer, type=_Tokenizer).model.vocab
        except msgspec.ValidationError:
            vocabulary = {}  # unigram models list pairs; any id does for them
        except msgspec.DecodeError:
            raise EngineFailed(f"the tokenizer.json of {facts.name} cannot be read") from None
        words = sorted(token for piece, token in vocabulary.items() if WORD.fullmatch(piece))
    if len(words) < FEWEST_WORDS:
        words = [token for token in range(max(facts.vocab_size, 1)) if token not in facts.eos_token_ids]
    return words

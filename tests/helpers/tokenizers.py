"""Tokenizers for tests, each made once."""

from functools import cache
from pathlib import Path
from typing import Any

from appliance.models.demo import demo_model_path
from appliance.models.facts import describe_model
from appliance.models.gguf_tokenizer import build_tokenizer
from appliance.models.gguf_vocab import read_vocabulary
from appliance.preprocess.tokenizer import TextTokenizer
from tests.helpers.vocabularies import crossing_bpe, sentence_piece

FOLDER = Path(__file__).parents[1] / "data" / "tiny"


@cache
def demo_tokenizer() -> TextTokenizer:
    """The demo model's, built from its GGUF file."""
    return TextTokenizer.from_json(describe_model(demo_model_path()).files["tokenizer.json"])


@cache
def folder_tokenizer() -> TextTokenizer:
    """The demo model's as a `tokenizer.json` that the training wrote."""
    return TextTokenizer.from_json((FOLDER / "tokenizer.json").read_bytes())


@cache
def byte_level_tokenizer(pre: str) -> TextTokenizer:
    """One with tokens over word borders that cuts words by the named rule."""
    return _built({**crossing_bpe(), "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre})


@cache
def sentence_piece_tokenizer() -> TextTokenizer:
    """One with marked spaces and byte tokens."""
    return _built(sentence_piece())


def _built(metadata: dict[str, Any]) -> TextTokenizer:
    numbers = ("tokenizer.ggml.token_type", "tokenizer.ggml.scores")  # the reader gives these as tuples
    present = {key: value for key, value in metadata.items() if value is not None}
    vocabulary = read_vocabulary({key: tuple(value) if key in numbers else value for key, value in present.items()})
    assert vocabulary is not None
    data = build_tokenizer(vocabulary, "test")
    assert data is not None
    return TextTokenizer.from_json(data)

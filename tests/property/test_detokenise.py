"""Pieces of detokenised text, joined, equal the text of all ids, whatever the ids and however they are cut."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from appliance.preprocess.detokenise import WindowDetokeniser
from appliance.preprocess.tokenizer import TextTokenizer
from tests.helpers.tokenizers import byte_level_tokenizer, demo_tokenizer, folder_tokenizer, sentence_piece_tokenizer

MAKERS: list[Callable[[], TextTokenizer]] = [
    demo_tokenizer,
    folder_tokenizer,
    sentence_piece_tokenizer,
    lambda: byte_level_tokenizer("llama3"),
]
CHUNKS = st.lists(st.lists(st.one_of(st.integers(0, 2047), st.integers(0, 270)), max_size=4), max_size=25)
"""Small ids are special tokens and single bytes, which seldom make whole characters."""


@pytest.mark.parametrize("make", MAKERS)
@settings(deadline=None)  # the first example makes the tokenizer
@given(chunks=CHUNKS, skip_special=st.booleans())
def test_pieces_equal_the_whole(make: Callable[[], TextTokenizer], chunks: list[list[int]], skip_special: bool) -> None:
    tokenizer = make()
    detokeniser = tokenizer.detokeniser(skip_special=skip_special)
    pieces = [detokeniser.push(chunk) for chunk in chunks] + [detokeniser.finish()]
    ids = [token_id for chunk in chunks for token_id in chunk]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special=skip_special)


@settings(deadline=None)
@given(chunks=CHUNKS, skip_special=st.booleans())
def test_byte_level_equals_the_library(chunks: list[list[int]], skip_special: bool) -> None:
    tokenizer = folder_tokenizer()
    library = Tokenizer.from_str(tokenizer._tokenizer.to_str())
    ids = [token_id for chunk in chunks for token_id in chunk]
    assert tokenizer.decode(ids, skip_special=skip_special) == library.decode(ids, skip_special_tokens=skip_special)


@pytest.mark.parametrize("make", MAKERS)
@settings(deadline=None)
@given(text=st.text())
def test_text_survives(make: Callable[[], TextTokenizer], text: str) -> None:
    tokenizer = make()
    text = text.replace("\u2581", "")  # the mark itself is read back as a space, which is how these vocabularies work
    ids = tokenizer.encode(text, special=False)
    detokeniser = tokenizer.detokeniser(skip_special=False)
    pieces = [detokeniser.push([token_id]) for token_id in ids] + [detokeniser.finish()]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces if "\ufffd" not in text)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() in (text, " " + text)


@given(chunks=st.lists(st.lists(st.integers(0, 40), max_size=3), max_size=30))
def test_window_detokeniser_on_word_pieces(chunks: list[list[int]]) -> None:
    vocabulary = {f"{'##' if number % 3 else ''}w{number}": number for number in range(40)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary | {"[UNK]": 40}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    detokeniser = WindowDetokeniser(lambda ids: str(tokenizer.decode(ids)))
    pieces = [detokeniser.push(chunk) for chunk in chunks] + [detokeniser.finish()]
    assert "".join(pieces) == tokenizer.decode([token_id for chunk in chunks for token_id in chunk])

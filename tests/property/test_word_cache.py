"""Encoding through the word cache gives the ids that encoding the whole text gives."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.models.pre_tokenizers import PRE_TOKENIZERS
from appliance.preprocess import word_cache
from appliance.preprocess.tokenizer import TextTokenizer
from appliance.preprocess.word_cache import WordCache
from tests.helpers.random_text import PIECES, random_text
from tests.helpers.tokenizers import byte_level_tokenizer, demo_tokenizer

ONE_NAME_PER_FAMILY = sorted({family: name for name, family in PRE_TOKENIZERS.items()}.values())
WORDS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), min_size=30, max_size=120)


def through_cache(tokenizer: TextTokenizer, text: str) -> list[int] | None:
    assert tokenizer._words is not None
    return tokenizer._words.lookup(text)


@settings(deadline=None)
@given(words=WORDS, joint=st.sampled_from([" ", "  ", "", " \n", "\n "]))
def test_any_text(words: list[str], joint: str) -> None:
    tokenizer = demo_tokenizer()
    text = joint.join(words) + " " + " ".join(words)
    assert tokenizer.encode(text) == tokenizer._encode_whole(text)


@pytest.mark.parametrize("pre", ONE_NAME_PER_FAMILY)
def test_every_way_of_cutting_words(pre: str) -> None:
    tokenizer = byte_level_tokenizer(pre)
    assert tokenizer.caches_words
    random = Random(pre)
    used = 0
    for _ in range(250):
        text = " ".join(random_text(random, 3) for _ in range(80))
        ids = through_cache(tokenizer, text)
        used += ids is not None
        assert ids is None or ids == tokenizer._encode_whole(text)
    assert used > 200


def test_matches_over_spaces_turn_the_cache_off() -> None:
    """A cut that joins words, a special token that holds a space, and one that swallows the space after it."""
    source = demo_tokenizer()._tokenizer.to_str()
    joins_words = source.replace(r" ?\\p{L}+|", r" ?\\p{L}+(?: \\p{L}+)*|")
    spaced_token = source.replace('"content":"<|im_start|>"', '"content":"im start"')
    swallowing = source.replace('"rstrip":false', '"rstrip":true')
    for document in (joins_words, spaced_token, swallowing):
        assert document != source
        assert not TextTokenizer.from_json(document.encode()).caches_words
    assert TextTokenizer.from_json(source.encode()).caches_words


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "MAX_WORDS", 100)
    tokenizer = demo_tokenizer()
    cache = WordCache(tokenizer._encode_whole)
    for start in range(0, 2000, 40):
        text = " ".join(f"word{number}" for number in range(start, start + 60))
        assert cache.lookup(text) == tokenizer._encode_whole(text)
        assert len(cache._known) <= 100


def test_too_many_new_words_are_left_to_the_whole_text() -> None:
    cache = WordCache(demo_tokenizer()._encode_whole)
    text = " ".join(f"word{number}" for number in range(2 * word_cache.MAX_NEW_WORDS))
    assert cache.lookup(text) is None
    assert cache.lookup(text) is None or cache.lookup(text) == demo_tokenizer()._encode_whole(text)
    assert cache.lookup(text) == demo_tokenizer()._encode_whole(text)

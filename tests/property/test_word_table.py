"""The tables of words in C and in Python give the same answers, and caches on either of them do the same work."""

from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.errors import InvalidRequest
from appliance.preprocess import word_cache
from appliance.preprocess.tokenizer import TextTokenizer
from appliance.preprocess.word_cache import WordCache
from appliance.preprocess.word_cuts import cut_words
from appliance.preprocess.word_table import PythonWordTable
from tests.helpers.random_text import PIECES, random_text
from tests.helpers.tokenizers import byte_level_tokenizer, demo_tokenizer
from tests.helpers.word_tables import found_parts, make_native

SURROGATE = "\ud800"
WORDS = st.one_of(
    st.sampled_from([*PIECES, "", "a" * 70, "\u4e2d" * 300, f"x{SURROGATE}", f"{SURROGATE}."]),
    st.text(st.characters(max_codepoint=0xFF), max_size=4),
    st.text(max_size=6),
)
TEXTS = st.builds(str.join, st.sampled_from([" ", "  ", "", " \n", "\n "]), st.lists(WORDS, max_size=30))


@settings(deadline=None, max_examples=300)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), random=st.randoms(use_true_random=False))
def test_tables_find_the_same(texts: list[str], random: Random) -> None:
    words, ends, numbers = (make_native(), PythonWordTable()), (make_native(), PythonWordTable()), count(1000)
    for text in [*texts, *texts, *texts]:
        native, python = words[0].find(text, ends[0]), words[1].find(text, ends[1])
        assert found_parts(native) == found_parts(python)
        if python is None:
            continue
        first, *between, last = cut_words(text, {})
        for tables, parts in ((words, between), (ends, [first, " " + last])):
            for part in random.sample(parts, random.randint(0, len(parts))):
                ids = [next(numbers)] * random.randrange(4)
                for table in tables:
                    table.add(part, ids)
            assert len(tables[0]) == len(tables[1])


@pytest.mark.parametrize("family", ["gpt-2", "llama-bpe", "qwen2"])
def test_caches_learn_the_same(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """With tables that are often full, more new words than a call learns, and words too long to keep."""
    for name, bound in (("MAX_WORDS", 150), ("MAX_NEW_WORDS", 40), ("MAX_ENDS", 8), ("MAX_WORD_CHARS", 8)):
        monkeypatch.setattr(word_cache, name, bound)
    tokenizer, random, used = byte_level_tokenizer(family), Random(family), 0
    native = WordCache(tokenizer._encode_whole, make_native)
    python = WordCache(tokenizer._encode_whole, PythonWordTable)
    words = [random_text(random, 2) for _ in range(300)]
    for _ in range(300):
        text = random.choice([" ", " ", "  "]).join(random.choices(words, k=random.randint(20, 70)))
        ids = native.lookup(text)
        assert ids == python.lookup(text)
        assert ids is None or ids == tokenizer._encode_whole(text)
        assert [len(native._known), len(native._ends)] == [len(python._known), len(python._ends)]
        assert len(native._known) <= word_cache.MAX_WORDS
        assert len(native._ends) <= word_cache.MAX_ENDS
        used += ids is not None
    assert 50 < used < 300


@settings(deadline=None)
@given(words=st.lists(WORDS, min_size=40, max_size=80), joint=st.sampled_from([" ", "  ", " \n"]))
def test_any_text_or_none(words: list[str], joint: str) -> None:
    """Half of a surrogate pair is refused wherever it stands, every time."""
    text = joint.join(words) + " " + " ".join(words)
    tokenizer = demo_tokenizer()
    caches = [WordCache(tokenizer._encode_whole, make) for make in (make_native, PythonWordTable)]
    for cache in (*caches, *caches):
        if SURROGATE in text:
            with pytest.raises(InvalidRequest):
                _encode(tokenizer, cache, text)
        else:
            assert _encode(tokenizer, cache, text) == tokenizer._encode_whole(text)


def _encode(tokenizer: TextTokenizer, cache: WordCache, text: str) -> list[int]:
    ids = cache.lookup(text)
    return tokenizer._encode_whole(text) if ids is None else ids

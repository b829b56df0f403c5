"""The tokenizer built from a GGUF file gives the same ids as the embedded engine that loaded the same file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from appliance.models.demo import demo_model_path
from appliance.models.gguf import read_gguf
from appliance.models.gguf_tokenizer import build_tokenizer
from appliance.models.gguf_vocab import read_vocabulary
from appliance.models.pre_tokenizers import PRE_TOKENIZERS
from tests.helpers.gguf_writer import retokenize_demo
from tests.helpers.llama_engine import engine_tokenizer
from tests.helpers.random_text import random_text
from tests.helpers.vocabularies import crossing_bpe, sentence_piece

ONE_NAME_PER_FAMILY = sorted({family: name for name, family in PRE_TOKENIZERS.items()}.values())
SPECIALS = ["<s>", "</s>", "<unk>", "<tool>", "<|user|>", "  \n", "<|im_start|>"]


def built(model: Path, *, special: bool = True) -> Tokenizer:
    vocabulary = read_vocabulary(read_gguf(model).metadata)
    assert vocabulary is not None
    data = build_tokenizer(vocabulary, "test")
    assert data is not None
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.encode_special_tokens = not special
    return tokenizer


@contextmanager
def compared(model: Path) -> Iterator[list[str]]:
    """Gives the texts, and on leaving nothing; each text is compared with and without parsing of special tokens."""
    texts: list[str] = []
    yield texts
    with_special, without = built(model), built(model, special=False)
    with engine_tokenizer(model) as engine:
        for number, text in enumerate(texts):
            special = number % 2 == 0
            ours = (with_special if special else without).encode(text, add_special_tokens=False).ids
            assert ours == engine.tokenize(text, special=special), (text, special)


@pytest.mark.slow
def test_demo_model_on_ten_thousand_texts() -> None:
    random = Random(11)
    with compared(demo_model_path()) as texts:
        texts += [random_text(random, 20) for _ in range(10_000)]


@pytest.mark.parametrize("pre", ONE_NAME_PER_FAMILY)
def test_every_way_of_cutting_words(tmp_path: Path, pre: str) -> None:
    random = Random(pre)
    model = retokenize_demo(tmp_path / "m.gguf", {**crossing_bpe(), "tokenizer.ggml.pre": pre})
    with compared(model) as texts:
        texts += [random_text(random) for _ in range(700)]


def test_every_known_name_is_known_to_the_engine(tmp_path: Path) -> None:
    for pre in PRE_TOKENIZERS:
        model = retokenize_demo(tmp_path / "m.gguf", {**crossing_bpe(), "tokenizer.ggml.pre": pre})
        with compared(model) as texts:
            texts += ["Don't  panic: 12345 \n\n x", "HELLOworld1234/ \t né", "\u4f60\u597dA'S  \u00a0!"]


def test_a_wrong_cut_would_be_noticed(tmp_path: Path) -> None:
    random = Random(5)
    texts = [random_text(random) for _ in range(300)]
    ids = []
    for pre in ONE_NAME_PER_FAMILY:
        tokenizer = built(retokenize_demo(tmp_path / "m.gguf", {**crossing_bpe(), "tokenizer.ggml.pre": pre}))
        ids.append([tokenizer.encode(text, add_special_tokens=False).ids for text in texts])
    same = [(a, b) for a in range(len(ids)) for b in range(a) if ids[a] == ids[b]]
    names = [{ONE_NAME_PER_FAMILY[a], ONE_NAME_PER_FAMILY[b]} for a, b in same]
    # These two differ only in whether a whole word that is a token is merged at all, which trained merges hide.
    assert all(PRE_TOKENIZERS[a].patterns == PRE_TOKENIZERS[b].patterns for a, b in map(tuple, names))


@pytest.mark.parametrize("add_space_prefix", [True, False])
@pytest.mark.parametrize("seed", [2, 3])
def test_sentence_piece(tmp_path: Path, *, add_space_prefix: bool, seed: int) -> None:
    random = Random(seed)
    vocabulary = sentence_piece(seed=seed, add_space_prefix=add_space_prefix)
    with compared(retokenize_demo(tmp_path / "m.gguf", vocabulary)) as texts:
        for _ in range(1500):
            middle = random.choice(SPECIALS) if random.random() < 0.3 else ""
            texts.append(random_text(random, 30) + middle + random_text(random))


def test_uncertain_scores_give_no_tokenizer(tmp_path: Path) -> None:
    vocabulary = sentence_piece()
    vocabulary = {**vocabulary, "tokenizer.ggml.scores": [0.0] * 2048}
    read = read_vocabulary(read_gguf(retokenize_demo(tmp_path / "m.gguf", vocabulary)).metadata)
    assert read is not None
    assert build_tokenizer(read, "test") is None

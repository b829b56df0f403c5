"""The tokenizer of one model: special tokens, threads, wrong input."""

import pytest

from appliance.core.errors import InvalidRequest, ModelFileBad
from appliance.preprocess.tokenizer import THREAD_CHARS, TextTokenizer
from tests.helpers.tokenizers import FOLDER, demo_tokenizer, folder_tokenizer, sentence_piece_tokenizer


def test_special_tokens_parsed_or_not() -> None:
    tokenizer = demo_tokenizer()
    assert tokenizer.encode("<|im_start|>Hi")[0] == 1
    plain = tokenizer.encode("<|im_start|>Hi", special=False)
    assert 1 not in plain
    assert tokenizer.decode(plain) == "<|im_start|>Hi"
    assert tokenizer.decode([1, *plain]) == "<|im_start|>Hi"
    assert tokenizer.decode([1], skip_special=False) == "<|im_start|>"


def test_both_sources_of_the_demo_tokenizer_agree() -> None:
    text = "def f(x):\n    return x  # caf\u00e9 \U0001f600 <|im_end|> isn't 12345"
    assert demo_tokenizer().encode(text) == folder_tokenizer().encode(text)


def test_single_tokens() -> None:
    tokenizer = demo_tokenizer()
    euro = tokenizer.encode("\u20ac")
    assert b"".join(map(tokenizer.token_bytes, euro)) == "\u20ac".encode()
    assert len(euro) == 3
    assert tokenizer.token_text(euro[0]) == "\ufffd"
    assert tokenizer.token_bytes(2) == b"<|im_end|>"
    assert tokenizer.token_bytes(99_999) == b""
    assert tokenizer.token_bytes(-1) == b""
    assert tokenizer.token_id("<|im_end|>") == 2
    assert tokenizer.token_id("no such token") is None


def test_unfinished_character_is_held_and_not_lost() -> None:
    tokenizer = demo_tokenizer()
    first, second, third = tokenizer.encode("\u20ac")
    detokeniser = tokenizer.detokeniser()
    assert [detokeniser.push([first]), detokeniser.push([second]), detokeniser.push([third])] == ["", "", "\u20ac"]
    assert detokeniser.push([first]) == ""
    assert detokeniser.finish() == "\ufffd"


def test_first_space_of_marked_vocabularies() -> None:
    tokenizer = sentence_piece_tokenizer()
    ids = tokenizer.encode("hello")
    assert tokenizer.decode(ids) == "hello"
    assert tokenizer.detokeniser(continues=True).push(ids) == " hello"


def test_ids_that_no_token_has() -> None:
    tokenizer = demo_tokenizer()
    assert tokenizer.decode([4, 1_000_000, 5]) == tokenizer.decode([4, 5])
    detokeniser = tokenizer.detokeniser()
    assert detokeniser.push([1_000_000]) == ""
    for wrong in (-1, 1 << 40):
        with pytest.raises(InvalidRequest, match="out of range"):
            tokenizer.decode([wrong])


@pytest.mark.parametrize("special", [True, False])
async def test_long_text_goes_through_a_thread(*, special: bool) -> None:
    tokenizer = TextTokenizer.from_json((FOLDER / "tokenizer.json").read_bytes())
    text = " ".join(f"w{number}" for number in range(THREAD_CHARS // 4))
    assert await tokenizer.encode_async(text, special=special) == tokenizer.encode(text, special=special)
    assert await tokenizer.encode_async("short", special=special) == tokenizer.encode("short", special=special)


async def test_half_a_surrogate_pair_is_the_clients_fault() -> None:
    for text in ("\ud800", "word " * 100 + "\ud800" + " word" * 100, "word " * 5000 + "\ud800"):
        with pytest.raises(InvalidRequest, match="surrogate"):
            await demo_tokenizer().encode_async(text)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model": 3}', b'{"model": {"type": "BPE"}}', b"\xff"])
def test_bad_files_are_one_line(data: bytes) -> None:
    with pytest.raises(ModelFileBad, match="tokenizer cannot be read") as caught:
        TextTokenizer.from_json(data)
    assert "\n" not in str(caught.value)

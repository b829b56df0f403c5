"""What only the native table of words can get wrong: memory that runs out, other code in between, wide characters."""

import gc
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from appliance.preprocess.word_cuts import ends_clean
from appliance.preprocess.word_table import PythonWordTable, WordTable
from tests.helpers.word_tables import MAKERS, found_parts, make_native


@pytest.fixture
def words() -> WordTable:
    return make_native()


@pytest.fixture
def ends() -> WordTable:
    return make_native()


@pytest.mark.parametrize("wide", ["", "\xe9", "\u4e2d", "\U0001f600"])
def test_a_word_is_the_same_in_texts_of_any_width(words: WordTable, ends: WordTable, wide: str) -> None:
    for number, word in enumerate(("na\xefve", "\u4e2d\u6587", "\U0001d518a", "plain")):
        words.add(word, [number])
    ends.add("a", [10])
    ends.add(" b" + wide, [11])
    text = f"a na\xefve plain na\xefve b{wide}"
    assert words.find(text, ends) == [10, 0, 3, 0, 11]
    assert words.find(f"a \u4e2d\u6587 \U0001d518a b{wide}", ends) == [10, 1, 2, 11]


def test_words_with_the_same_beginning_are_told_apart(words: WordTable, ends: WordTable) -> None:
    lengths = range(1, 40)
    for length in lengths:
        words.add("a" * length, [length])
    for table in (words, ends):
        table.add("\x00", [0])
        table.add("\x00\x00", [100])
    text = " ".join(["b", *("a" * length for length in (*lengths, 40)), "c"])
    assert found_parts(words.find(text, ends)) == ("b", [list(lengths), "a" * 40], " c")
    assert len(words) == 41


def test_many_words(words: WordTable, ends: WordTable) -> None:
    texts = [f"word{number}" for number in range(70_000)]
    for number, word in enumerate(texts):
        words.add(word, [number, number])
        words.add(word, [])
    assert len(words) == len(texts)
    found = words.find(" ".join(["x", *texts, "x"]), ends)
    assert found_parts(found) == ("x", [list(chain.from_iterable((n, n) for n in range(70_000)))], " x")


@pytest.mark.parametrize("maker", MAKERS)
def test_code_that_runs_between_changes_the_tables(maker: str, request: pytest.FixtureRequest) -> None:
    """The collector calls back when the native table makes objects."""
    words, ends = MAKERS[maker](), MAKERS[maker]()
    known, missing = [f"known{number}" for number in range(300)], [f"missing{number}" for number in range(300)]
    for number, word in enumerate(known):
        words.add(word, [number])
    calls = 0

    def on_collection(phase: str, info: dict[str, Any]) -> None:
        nonlocal calls
        for number in range(calls, calls + 50):
            words.add(f"other{number}", [number])
        calls += 50

    thresholds = gc.get_threshold()
    request.addfinalizer(lambda: gc.set_threshold(*thresholds))
    request.addfinalizer(lambda: gc.callbacks.remove(on_collection))
    text = " ".join(["x", *chain.from_iterable(zip(known, missing, strict=True)), "x"])
    gc.callbacks.append(on_collection)
    gc.set_threshold(1)
    found = words.find(text, ends)
    gc.set_threshold(*thresholds)
    expected = chain.from_iterable(([number], word) for number, word in enumerate(missing))
    assert found_parts(found) == ("x", list(expected), " x")
    assert calls > 1000 or maker == "python"
    assert len(words) == 300 + calls


def test_memory_that_runs_out_leaves_the_table_whole(words: WordTable, ends: WordTable) -> None:
    testing = pytest.importorskip("_testcapi")

    def failures(work: Callable[..., object], *args: object) -> int:
        """Do it with the first allocation failing, then the second, and so on, until none does."""
        for number in range(1000):
            testing.set_nomemory(number, number + 1)
            try:
                work(*args)
            except MemoryError:
                pass
            else:
                return number
            finally:
                testing.remove_mem_hooks()
        raise AssertionError("it fails again and again")

    parts = [f"word{number}" for number in range(200)]
    numbers = [[number] * 50 for number in range(200)]
    assert sum(failures(words.add, part, ids) for part, ids in zip(parts[:-1], numbers, strict=False)) >= 200
    assert len(words) == 199
    text = " ".join(["x", *parts, *parts, "x"])
    assert failures(words.find, text, ends) > 5
    known = list(chain.from_iterable(numbers[:-1]))
    assert found_parts(words.find(text, ends)) == ("x", [known, parts[-1], known, parts[-1]], " x")


def test_words_that_collide_are_found_or_missing(words: WordTable, ends: WordTable) -> None:
    """Made from the secret that nobody outside knows: all of them want the same slot of the table."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    blocks = [(inverse * value % 2**64) ^ (hash("WordTable") % 2**64) for value in range(500)]
    texts = [block.to_bytes(8, "little").decode("latin-1") for block in blocks]
    crowd = [text for text in texts if " " not in text and ends_clean(text)]
    for number, word in enumerate(crowd):
        words.add(word, [number])
    assert len(words) == 128 < len(crowd)
    found = words.find(" ".join(["x", *crowd, "x"]), ends)
    assert isinstance(found, tuple)
    missing = {piece for piece in found[1] if isinstance(piece, str)}
    known = chain.from_iterable(piece for piece in found[1] if not isinstance(piece, str))
    assert list(known) == [number for number, word in enumerate(crowd) if word not in missing]
    assert len(words) == len(crowd) - len(missing)


def test_wrong_arguments(words: WordTable, ends: WordTable) -> None:
    wrong: Any = words
    kind: Any = type(words)
    calls: tuple[Callable[[], object], ...] = (
        lambda: wrong.find("a b c"),
        lambda: wrong.find(b"a b c", ends),
        lambda: wrong.find("a b c", PythonWordTable()),
        lambda: wrong.add("a"),
        lambda: wrong.add(1, [1]),
        lambda: wrong.add("a", 1),
        lambda: wrong.add("a", [True]),
        lambda: wrong.add("a", [1.5]),
        lambda: kind(1),
    )
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert len(words) == 0

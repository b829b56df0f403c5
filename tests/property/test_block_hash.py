"""Block hashes of both implementations against XXH3 as the `xxhash` package has it, by every way a length can take."""

import struct
from collections.abc import Sequence
from enum import IntEnum
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from tests.helpers.block_hashes import BOTH, implementation

WORDS = st.integers(0, 2**64 - 1)
SEEDS = st.sampled_from([0, 1337, 2**63, 2**64 - 1]) | WORDS
TOKENS = st.sampled_from([0, 1, 2**30 - 1, 2**30, 2**32 - 1]) | st.integers(0, 2**32 - 1)
SEQUENCES = st.lists(TOKENS, max_size=700)


class Special(IntEnum):
    """Token ids that are no plain int."""

    END = 151_643


@pytest.fixture(params=BOTH)
def hashes(request: pytest.FixtureRequest) -> ModuleType:
    return implementation(request.param)


def expected_blocks(tokens: Sequence[int], block_size: int, further: bool, seed: int) -> list[int]:
    width = block_size + further
    blocks = [tokens[at : at + width] for at in range(0, len(tokens), block_size)]
    return [xxh3_64_intdigest(struct.pack(f"<{width}I", *block), seed) for block in blocks if len(block) == width]


def expected_chain(locals_: Sequence[int], after: int | None, seed: int) -> list[int]:
    chain: list[int] = []
    for one in locals_:
        before = chain[-1] if chain else after
        chain.append(one if before is None else xxh3_64_intdigest(struct.pack("<QQ", before, one), seed))
    return chain


@pytest.mark.parametrize("seed", [1337, 2**64 - 1337])
def test_blocks_of_every_length(hashes: ModuleType, seed: int) -> None:
    """Lengths of 4 bytes to over 240, and multiples of the 1024 that long inputs are taken in."""
    tokens = [number * 2_654_435_761 % 2**32 for number in range(4 * 300)]
    for block_size in (*range(1, 300), 511, 512, 513, 1024, 1025):
        for further in (False, True):
            found = hashes.hash_blocks(tokens, block_size, further, seed)
            assert found == expected_blocks(tokens, block_size, further, seed)


@pytest.mark.parametrize("kind", BOTH)
@given(tokens=SEQUENCES, block_size=st.integers(1, 80), further=st.booleans(), seed=SEEDS)
@example(tokens=[], block_size=1, further=True, seed=0)
@example(tokens=[7], block_size=1, further=True, seed=0)
def test_any_tokens(kind: str, tokens: list[int], block_size: int, further: bool, seed: int) -> None:
    hashes = implementation(kind)
    wanted = expected_blocks(tokens, block_size, further, seed)
    assert hashes.hash_blocks(tokens, block_size, further, seed) == wanted
    assert hashes.hash_blocks(tuple(tokens), block_size, further, seed) == wanted


@pytest.mark.parametrize("kind", BOTH)
@given(locals_=st.lists(WORDS, max_size=100), after=st.none() | WORDS, seed=SEEDS)
def test_any_chain(kind: str, locals_: list[int], after: int | None, seed: int) -> None:
    assert implementation(kind).chain_hashes(locals_, after, seed) == expected_chain(locals_, after, seed)


def test_tokens_that_are_no_plain_ints(hashes: ModuleType) -> None:
    plain = [1, Special.END.value, 1, 3, 4]
    wanted = expected_blocks(plain, 2, False, 5)
    assert hashes.hash_blocks([1, Special.END, True, 3, 4], 2, False, 5) == wanted
    assert hashes.hash_blocks(range(9), 4, True, 5) == expected_blocks(range(9), 4, True, 5)


@pytest.mark.parametrize("token", [-1, 2**32, 2**64, -(2**64), 1.0, "1", None])
@pytest.mark.parametrize("before", [[], [1, 2, 3], [2**31] * 5])
def test_what_is_no_token(hashes: ModuleType, token: object, before: list[int]) -> None:
    with pytest.raises((OverflowError, TypeError)):
        hashes.hash_blocks([*before, token, 1], 2, False, 0)


def test_a_block_longer_than_any_prompt(hashes: ModuleType) -> None:
    for block_size in (2**31, 2**62, 2**63 - 1, 2**63, 2**70):
        assert hashes.hash_blocks([1, 2, 3], block_size, True, 0) == []


def test_a_prompt_that_changes_while_it_is_read() -> None:
    class Shrinking:
        """A token that empties the prompt it is in."""

        def __index__(self) -> int:
            tokens.clear()
            return 1

    tokens: list[object] = [5, Shrinking(), *range(100)]
    found = implementation("native").hash_blocks(tokens, 2, False, 0)
    assert found == expected_blocks([5, 1, *range(100)], 2, False, 0)
    assert not tokens

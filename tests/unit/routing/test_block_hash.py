"""Block hashes against the published values that every worker and router must agree on."""

import struct

import pytest
from xxhash import xxh3_64_intdigest

from appliance.core.errors import InvalidRequest
from appliance.routing.block_hash import LocalHash, adapter_seed, local_hashes, sequence_hashes
from tests.helpers.block_hashes import BOTH, implementation

TOKENS = list(range(1, 9))
FIRST, SECOND, THIRD = 14643705804678351452, 16777012769546811212, 483935686894639516
ADAPTER_SECOND = 10751596618610180438


@pytest.fixture(params=BOTH, autouse=True)
def implemented(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it holds for both implementations."""
    hashes = implementation(request.param)
    for name in ("hash_blocks", "chain_hashes"):
        monkeypatch.setattr(f"appliance.routing.block_hash.{name}", getattr(hashes, name))


def test_plain_blocks() -> None:
    assert local_hashes(TOKENS, 4) == [FIRST, SECOND]
    assert local_hashes([9, 10, 11, 12], 4) == [THIRD]


def test_an_adapter_changes_every_block() -> None:
    assert local_hashes(TOKENS, 4, lora_name="a") == [17680866786467819158, ADAPTER_SECOND]
    assert local_hashes(TOKENS, 4, lora_name="") == [FIRST, SECOND]
    assert adapter_seed("") == 1337


@pytest.mark.parametrize(
    ("media", "first"),
    [([7], 5863904876152881626), ([3, 7], 3497545641356191295), ([7, 3], 3497545641356191295), ([], FIRST)],
)
def test_media_change_their_own_block_whatever_their_order(media: list[int], first: int) -> None:
    assert local_hashes(TOKENS, 4, media={0: media}) == [first, SECOND]


def test_media_with_an_adapter() -> None:
    assert local_hashes(TOKENS, 4, lora_name="a", media={0: [7]}) == [10413870592582332417, ADAPTER_SECOND]


def test_media_of_a_later_block() -> None:
    first, second = local_hashes(TOKENS, 4, media={1: [7], 5: [8]})
    assert first == FIRST
    assert second == local_hashes(TOKENS[4:], 4, media={0: [7]})[0] != SECOND


def test_eagle_blocks_reach_one_token_further() -> None:
    assert local_hashes(TOKENS, 4, eagle=True) == [1914873892905420881]
    assert local_hashes([*TOKENS, 9], 4, eagle=True) == [1914873892905420881, 1929047464662796003]
    assert local_hashes(TOKENS[:4], 4, eagle=True) == []


def test_media_of_an_eagle_block_come_after_its_further_token() -> None:
    words = struct.pack("<5I2Q", *range(5, 10), 3, 7)
    found = local_hashes(range(1, 10), 4, media={1: iter([7, 3])}, eagle=True)
    assert found == [1914873892905420881, xxh3_64_intdigest(words, 1337)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_less_than_a_block_has_no_hash(count: int) -> None:
    assert local_hashes(TOKENS[:count], 4) == []
    assert local_hashes(TOKENS[:count], 4, media={0: [7]}) == []


def test_a_partial_last_block_is_left_out() -> None:
    assert local_hashes([*TOKENS, 9, 10, 11], 4) == [FIRST, SECOND]


@pytest.mark.parametrize("tokens", [[1, -1, 2, 3], [1, 2**32, 2, 3], [1, "2", 3, 4]])
def test_refuses_what_is_no_token_id(tokens: list[int]) -> None:
    with pytest.raises(InvalidRequest, match="token id"):
        local_hashes(tokens, 4)


def test_refuses_other_bad_values() -> None:
    with pytest.raises(InvalidRequest, match="blocks of 0 tokens"):
        local_hashes(TOKENS, 0)
    with pytest.raises(InvalidRequest, match="media hash"):
        local_hashes(TOKENS, 4, media={0: [2**64]})


def test_sequence_hashes_start_with_the_local_one_and_chain() -> None:
    chained = sequence_hashes([LocalHash(FIRST), LocalHash(SECOND), LocalHash(THIRD)])
    assert chained[0] == FIRST
    # XXH3-64, seed 1337, of the two little-endian words; computed apart from this code
    assert chained[1] == 4945711292740353085
    assert chained[2] == 12583592247330656132
    assert sequence_hashes([LocalHash(SECOND), LocalHash(FIRST)])[1] != chained[1]


def test_no_blocks_have_no_sequence() -> None:
    assert sequence_hashes([]) == []


def test_sequence_hashes_go_on_from_a_block() -> None:
    hashes = local_hashes(range(40), 4)
    whole = sequence_hashes(hashes)
    assert sequence_hashes(hashes[3:], whole[2]) == whole[3:]
    assert sequence_hashes([], whole[2]) == []

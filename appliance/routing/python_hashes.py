"""Block hashes in Python. Twin of the functions in `native/`, and in use where these were not built."""

import sys
from array import array
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, cast

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from appliance.routing.block_hash import LocalHash, SequenceHash

_TOKEN_BYTES = 4
_PAIR = Struct("<QQ")


def hash_blocks(tokens: Sequence[int], block_size: int, further: bool, seed: int) -> "list[LocalHash]":
    """XXH3-64 of every complete block, and with `further` of the token after it.

    Raises `OverflowError` or `TypeError` for a token id that is no unsigned 32-bit number.
    """
    words = little_endian("I", tokens)
    step = block_size * _TOKEN_BYTES
    width = step + _TOKEN_BYTES * further
    digest = xxh3_64_intdigest
    hashes = [digest(words[at : at + width], seed) for at in range(0, len(words) - width + 1, step)]
    return cast("list[LocalHash]", hashes)  # a NewType called for every block would take as long as hashing it


def chain_hashes(hashes: Sequence[int], after: int | None, seed: int) -> "list[SequenceHash]":
    """XXH3-64 of each hash behind the result before it, which is `after` at first, or the first hash itself."""
    if not hashes:
        return []
    pack, digest = _PAIR.pack, xxh3_64_intdigest
    chained = hashes[0] if after is None else after
    result = [chained] if after is None else []
    for one in hashes[len(result) :]:
        chained = digest(pack(chained, one), seed)
        result.append(chained)
    return cast("list[SequenceHash]", result)


def little_endian(kind: str, numbers: Iterable[int]) -> bytes:
    """Numbers as words; `kind` is a type code of `array`. Raises `OverflowError` or `TypeError`."""
    words = array(kind, numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()

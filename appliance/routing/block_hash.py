"""Hashes of token blocks: local ones, which name a block's content, and sequence ones, which name a whole prefix.

Both are part of the protocol between workers, routers and indexers, and never change: a local hash is XXH3-64 of the
block's token ids as little-endian 32-bit words, a sequence hash chains the local ones.
"""

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import NewType, cast

from xxhash import xxh3_64_intdigest

from appliance.core.errors import InvalidRequest

LocalHash = NewType("LocalHash", int)
"""Unsigned 64-bit hash of one block's tokens, whatever comes before it."""
SequenceHash = NewType("SequenceHash", int)
"""Unsigned 64-bit hash of one block and of everything before it."""

SEED = 1337
_PAIR = Struct("<QQ")
_TOKEN_BYTES = 4


def local_hashes(
    tokens: Sequence[int],
    block_size: int,
    *,
    lora_name: str = "",
    media: Mapping[int, Iterable[int]] | None = None,
    eagle: bool = False,
) -> list[LocalHash]:
    """The hash of every complete block of a prompt; none when the prompt is shorter than a block.

    `lora_name` is the adapter that computes the blocks; an empty one is the base model. `media` holds the hashes
    (unsigned 64-bit, any order) of the images and the like that lie in a block, by block number. With `eagle` each
    block also covers the first token after it. Raises `InvalidRequest` for a token id that is no unsigned 32-bit
    number, a block size below one, or a media hash that is no unsigned 64-bit number.
    """
    if block_size < 1:
        raise InvalidRequest(f"cannot hash blocks of {block_size} tokens")
    words = _token_bytes(tokens)
    seed = adapter_seed(lora_name)
    step = block_size * _TOKEN_BYTES
    width = step + _TOKEN_BYTES if eagle else step
    starts = range(0, len(words) - width + 1, step)
    digest = xxh3_64_intdigest
    if not media:
        found = [digest(words[at : at + width], seed) for at in starts]
    else:
        found = [
            digest(words[at : at + width] + _media_bytes(media.get(number)), seed) for number, at in enumerate(starts)
        ]
    return cast("list[LocalHash]", found)  # a NewType called for every block would take as long as hashing it


def sequence_hashes(hashes: Sequence[LocalHash], after: SequenceHash | None = None) -> list[SequenceHash]:
    """The hash of each prefix that ends with a block, given the local hashes of all blocks from the first on.

    With `after`, the sequence hash of a block, `hashes` begin with the block that follows it.
    """
    if not hashes:
        return []
    pack, digest = _PAIR.pack, xxh3_64_intdigest
    chained: int = hashes[0] if after is None else after
    result = [chained] if after is None else []
    for local in hashes[len(result) :]:
        chained = digest(pack(chained, local), SEED)
        result.append(chained)
    return cast("list[SequenceHash]", result)


def adapter_seed(lora_name: str) -> int:
    """The seed of local hashes computed with an adapter; an empty name is the base model."""
    if not lora_name:
        return SEED
    return (SEED + xxh3_64_intdigest(lora_name.encode(), 0)) % 2**64


def _token_bytes(tokens: Sequence[int]) -> bytes:
    try:
        return _little_endian(array("I", tokens))
    except (OverflowError, TypeError) as error:
        raise InvalidRequest("cannot hash a token id that is no unsigned 32-bit number") from error


def _media_bytes(hashes: Iterable[int] | None) -> bytes:
    # Sorted, because the order in which a request names its images does not change what the block holds.
    try:
        return _little_endian(array("Q", sorted(hashes or ())))
    except (OverflowError, TypeError) as error:
        raise InvalidRequest("cannot hash a media hash that is no unsigned 64-bit number") from error


def _little_endian(words: "array[int]") -> bytes:
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()

"""Hashes of token blocks: local ones, which name a block's content, and sequence ones, which name a whole prefix.

Both are part of the protocol between workers, routers and indexers, and never change: a local hash is XXH3-64 of the
block's token ids as little-endian 32-bit words, a sequence hash chains the local ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NewType

from xxhash import xxh3_64_intdigest

from appliance.core.errors import InvalidRequest
from appliance.routing.python_hashes import little_endian

try:
    from appliance.routing.native.block_tree import chain_hashes, hash_blocks
except ImportError:  # not built: there was no compiler
    from appliance.routing.python_hashes import chain_hashes, hash_blocks

LocalHash = NewType("LocalHash", int)
"""Unsigned 64-bit hash of one block's tokens, whatever comes before it."""
SequenceHash = NewType("SequenceHash", int)
"""Unsigned 64-bit hash of one block and of everything before it."""

SEED = 1337


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
    seed = adapter_seed(lora_name) if lora_name else SEED
    try:
        hashes = hash_blocks(tokens, block_size, eagle, seed)
    except (OverflowError, TypeError) as error:
        raise InvalidRequest("cannot hash a token id that is no unsigned 32-bit number") from error
    if media:
        _add_media(hashes, media, tokens, block_size, eagle, seed)
    return hashes


def sequence_hashes(hashes: Sequence[LocalHash], after: SequenceHash | None = None) -> list[SequenceHash]:
    """The hash of each prefix that ends with a block, given the local hashes of all blocks from the first on.

    With `after`, the sequence hash of a block, `hashes` begin with the block that follows it.
    """
    return chain_hashes(hashes, after, SEED)


def adapter_seed(lora_name: str) -> int:
    """The seed of local hashes computed with an adapter; an empty name is the base model."""
    if not lora_name:
        return SEED
    return (SEED + xxh3_64_intdigest(lora_name.encode(), 0)) % 2**64


def _add_media(
    hashes: list[LocalHash],
    media: Mapping[int, Iterable[int]],
    tokens: Sequence[int],
    block_size: int,
    eagle: bool,
    seed: int,
) -> None:
    """Hash the blocks with media anew: their tokens, and what is in them behind these."""
    for number in range(len(hashes)):
        behind = _media_bytes(media.get(number))
        if behind:
            start = number * block_size
            block = little_endian("I", tokens[start : start + block_size + eagle])
            hashes[number] = LocalHash(xxh3_64_intdigest(block + behind, seed))


def _media_bytes(hashes: Iterable[int] | None) -> bytes:
    # Sorted, because the order in which a request names its images does not change what the block holds.
    try:
        return little_endian("Q", sorted(hashes or ()))
    except (OverflowError, TypeError) as error:
        raise InvalidRequest("cannot hash a media hash that is no unsigned 64-bit number") from error

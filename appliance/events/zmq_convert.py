"""What the events of an engine mean for a prefix index: blocks that it can use, with our hashes of their tokens.

Pure. An engine's block hash serves as the block's id and is never recomputed; the content is told by the token ids.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core.errors import InvalidRequest
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.events.zmq_wire import AllBlocksCleared, Batch, BlockRemoved, BlockStored, Hash, Issue, WireEvent
from appliance.routing.block_hash import local_hashes

ID_MASK = 2**64 - 1
DIGEST_TAIL = 8

MEDIA: Mapping[str, Tier] = {
    "CPU_PINNED": Tier.HOST_PINNED,
    "CPU_TIER1": Tier.HOST_PINNED,
    "CPU_TIER2": Tier.DISK,
    "DISK": Tier.DISK,
    "EXTERNAL": Tier.DISK,
}
"""As the upstream indexer takes them; what is not listed, or absent, is the device."""
OFFLOAD_MEDIA: Mapping[str, Tier] = {**MEDIA, "CPU": Tier.HOST_PINNED, "STORAGE": Tier.DISK}
"""For an engine that is known to offload under these names, as vLLM does."""


class EventConverter:
    """Turns the events of one publisher into core events. Holds no state between events."""

    def __init__(self, block_size: int, media: Mapping[str, Tier] = MEDIA) -> None:
        if block_size < 1:
            raise InvalidRequest(f"cannot index blocks of {block_size} tokens", param="block_size")
        self._block_size = block_size
        self._media = media

    def convert(self, batch: Batch) -> tuple[list[KvEvent], Counter[Issue]]:
        """The events that an index can take, in order, and what was left out, with what the decoder left out."""
        issues = Counter(batch.issues)
        events = [event for one in batch.events if (event := self._convert(one, issues)) is not None]
        return events, issues

    def _convert(self, event: WireEvent, issues: Counter[Issue]) -> KvEvent | None:
        if isinstance(event, AllBlocksCleared):
            return ClearedBlocks()
        if event.group_idx:
            issues[Issue.OTHER_GROUP] += 1
            return None
        try:
            ids = [block_id(value) for value in event.block_hashes]
            if isinstance(event, BlockRemoved):
                return RemovedBlocks(ids, self._tier(event.medium)) if ids else None
            return self._convert_stored(event, ids, issues)
        except InvalidRequest:
            issues[Issue.MALFORMED] += 1
            return None

    def _convert_stored(self, event: BlockStored, ids: list[int], issues: Counter[Issue]) -> StoredBlocks | None:
        whole = self._whole_blocks(event)
        if whole < len(ids):
            issues[Issue.BLOCK_SIZE] += len(ids) - whole
        if not whole:
            return None
        if event.lora_id and not event.lora_name:
            # Blocks of an adapter must never count for prompts of the base model, and we cannot tell which it is.
            issues[Issue.ADAPTER_UNNAMED] += 1
            return None
        if event.cache_salt or _says_something(event.extra_keys):
            issues[Issue.EXTRA_KEYS] += 1
        hashes = self._hash(event.token_ids[: whole * self._block_size], event.lora_name or "")
        parent = None if event.parent_block_hash is None else block_id(event.parent_block_hash)
        return StoredBlocks(ids[:whole], list(hashes), parent, self._tier(event.medium))

    def _whole_blocks(self, event: BlockStored) -> int:
        """How many leading blocks have exactly our size."""
        count, tokens = len(event.block_hashes), len(event.token_ids)
        if event.block_size != self._block_size or tokens > count * self._block_size:
            return 0
        return tokens // self._block_size

    def _hash(self, tokens: Sequence[Any], lora_name: str) -> Sequence[int]:
        if isinstance(tokens[0], int):
            return local_hashes(tokens, self._block_size, lora_name=lora_name)
        return local_hashes(_from_pairs(tokens), self._block_size, lora_name=lora_name, eagle=True)

    def _tier(self, medium: str | None) -> Tier:
        return self._media.get(medium or "", Tier.DEVICE)


def block_id(value: Hash) -> int:
    """An engine's block hash as an unsigned 64-bit id; of a digest the last eight bytes, as vLLM shortens its own.

    Raises `InvalidRequest` for an empty digest. Two digests with the same end are one block to us: with a million
    blocks of one worker the odds are one in ten million.
    """
    if isinstance(value, int):
        return value & ID_MASK
    if not value:
        raise InvalidRequest("cannot name a block by an empty digest")
    return int.from_bytes(value[-DIGEST_TAIL:], "big")


def _from_pairs(pairs: Sequence[Any]) -> list[int]:
    """The tokens of bigram pages: the first of each pair, and the token that looks ahead beyond the last one."""
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidRequest("cannot hash tokens that are neither numbers nor pairs")
    return [pair[0] for pair in pairs] + [pairs[-1][1]]


def _says_something(extra_keys: Any) -> bool:
    """Whether any block has extra keys; engines send one entry for each block, or nothing."""
    return any(extra_keys) if isinstance(extra_keys, list) else bool(extra_keys)

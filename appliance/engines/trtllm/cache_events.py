"""What TensorRT-LLM's server says of its KV cache, as core events. Pure.

A block's hash is its id and is never recomputed; what it holds is told by its token ids.
"""

from collections.abc import Iterable
from typing import Any

from appliance.core.errors import InvalidRequest
from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks
from appliance.routing.block_hash import local_hashes

ID_MASK = 2**64 - 1
HEX_TAIL = 16  # digits of 64 bits; longer digests are known by their end, as those of other engines


class CacheEvents:
    """Turns the answers to `/kv_cache_events` into events of an index with blocks of one size.

    Left out are blocks of another size (the last one of a prompt may be short), blocks with extra ids (media,
    adapters), caches of other attention windows than the widest, and other ranks than the first. A block that moves to
    main memory stays where it was said to be: it is reused from there.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._widest = 0
        self.device_blocks = 0
        """How many the widest cache has on the device; 0: it was not said."""

    def convert(self, events: Iterable[Any]) -> list[KvEvent]:
        """The events that an index can take, in order. What cannot be read is left out."""
        found = []
        for event in events:
            try:
                one = self._convert(event)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError, InvalidRequest):
                continue
            if one is not None:
                found.append(one)
        return found

    def _convert(self, event: dict[str, Any]) -> KvEvent | None:
        data, window = event["data"], int(event.get("window_size") or 0)
        if event.get("attention_dp_rank"):
            return None
        if data["type"] == "created" and window >= self._widest:
            self._widest, self.device_blocks = window, int(data["num_blocks_per_cache_level"][0])
        if window < self._widest:
            return None
        match data["type"]:
            case "stored":
                return self._stored(data)
            case "removed":
                return RemovedBlocks([block_id(one) for one in data["block_hashes"]])
        return None

    def _stored(self, data: dict[str, Any]) -> StoredBlocks | None:
        ids: list[int] = []
        tokens: list[int] = []
        for block in data["blocks"]:
            held = block["tokens"]
            if len(held) != self._block_size or any(token.get("token_extra_id") for token in held):
                break  # what follows would have no parent
            ids.append(block_id(block["block_hash"]))
            tokens += [int(token["token_id"]) for token in held]
        if not ids:
            return None
        parent = data.get("parent_hash")
        hashes: list[int] = [*local_hashes(tokens, self._block_size)]
        return StoredBlocks(ids, hashes, None if parent is None else block_id(parent))


def block_id(value: int | str) -> int:
    """A block's hash, a number or hexadecimal digits, as an unsigned 64-bit id. Raises `ValueError`."""
    return (int(value[-HEX_TAIL:], 16) if isinstance(value, str) else int(value)) & ID_MASK

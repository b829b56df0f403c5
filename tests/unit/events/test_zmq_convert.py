"""What engines' events mean for the index: vectors of the protocol, tiers, and what is left out."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.events.zmq_convert import OFFLOAD_MEDIA, EventConverter, block_id
from appliance.events.zmq_wire import BadBatch, Dialect, Issue, decode_batch

PLAIN = [14643705804678351452, 16777012769546811212]
WITH_LORA_A = [17680866786467819158, 10751596618610180438]
EAGLE = [1914873892905420881, 1929047464662796003]
TOKENS = list(range(1, 9))


def convert(
    *events: Any, dialect: Dialect = Dialect.VLLM, converter: EventConverter | None = None
) -> tuple[list[KvEvent], Counter[Issue]]:
    """Events as plain data, as an engine would send them."""
    payload = msgspec.msgpack.encode([1.0, list(events), 0])
    return (converter or EventConverter(4)).convert(decode_batch(payload, dialect))


def stored(**fields: Any) -> dict[str, Any]:
    """The map form of two blocks, changed by these fields."""
    plain = {"block_hashes": [1, 2], "parent_block_hash": None, "token_ids": TOKENS, "block_size": 4}
    return {"type": "BlockStored", **plain, **fields}


def test_the_vectors_of_the_protocol() -> None:
    events, issues = convert(stored(), stored(lora_name="a", lora_id=3), stored(lora_name=""))
    assert events == [StoredBlocks([1, 2], PLAIN), StoredBlocks([1, 2], WITH_LORA_A), StoredBlocks([1, 2], PLAIN)]
    assert issues == Counter()


def test_pairs_are_hashed_with_the_token_that_follows() -> None:
    pairs = [[token, token + 1] for token in range(1, 9)]
    assert convert(stored(token_ids=pairs))[0] == [StoredBlocks([1, 2], EAGLE)]


@pytest.mark.parametrize(
    "array",
    [
        ["BlockStored", [1, 2], None, TOKENS, 4],
        ["BlockStored", [1, 2], None, TOKENS, 4, None],
        ["BlockStored", [1, 2], None, TOKENS, 4, None, "GPU"],
        ["BlockStored", [1, 2], None, TOKENS, 4, *[None] * 5, "full", None, "LOCAL", None, "s", [1], 9],
    ],
)
def test_arrays_of_any_age(array: list[Any]) -> None:
    assert convert(array) == ([StoredBlocks([1, 2], PLAIN)], Counter())


def test_the_order_of_fields_is_the_dialects() -> None:
    head = ["BlockStored", [1, 2], None, TOKENS, 4, 1, "DISK"]
    assert convert([*head, "a"])[0] == [StoredBlocks([1, 2], WITH_LORA_A, None, Tier.DISK)]
    events, issues = convert([*head, "salt", "session", "a"], dialect=Dialect.SGLANG)
    assert events == [StoredBlocks([1, 2], WITH_LORA_A, None, Tier.DISK)]
    assert issues == {Issue.EXTRA_KEYS: 1}


def test_removed_and_cleared_in_both_forms() -> None:
    events, _ = convert(
        {"type": "BlockRemoved", "block_hashes": [-1]},
        ["BlockRemoved", [2, 3], "CPU_PINNED"],
        ["BlockRemoved", []],
        {"type": "AllBlocksCleared"},
        ["AllBlocksCleared"],
    )
    assert events == [
        RemovedBlocks([2**64 - 1]),
        RemovedBlocks([2, 3], Tier.HOST_PINNED),
        ClearedBlocks(),
        ClearedBlocks(),
    ]


@pytest.mark.parametrize(
    ("medium", "tier"),
    [
        (None, Tier.DEVICE),
        ("GPU", Tier.DEVICE),
        ("CPU", Tier.DEVICE),
        ("anything", Tier.DEVICE),
        ("CPU_PINNED", Tier.HOST_PINNED),
        ("CPU_TIER1", Tier.HOST_PINNED),
        ("CPU_TIER2", Tier.DISK),
        ("DISK", Tier.DISK),
        ("EXTERNAL", Tier.DISK),
    ],
)
def test_media_are_tiers(medium: str | None, tier: Tier) -> None:
    assert convert(stored(medium=medium))[0] == [StoredBlocks([1, 2], PLAIN, None, tier)]


def test_an_engine_known_to_offload_has_more_tiers() -> None:
    converter = EventConverter(4, OFFLOAD_MEDIA)
    events, _ = convert(stored(medium="CPU"), stored(medium="STORAGE"), converter=converter)
    assert [event.tier for event in events if isinstance(event, StoredBlocks)] == [Tier.HOST_PINNED, Tier.DISK]


@pytest.mark.parametrize(
    ("fields", "kept", "issue", "count"),
    [
        ({"token_ids": TOKENS[:7]}, 1, Issue.BLOCK_SIZE, 1),
        ({"token_ids": TOKENS[:3]}, 0, Issue.BLOCK_SIZE, 2),
        ({"token_ids": [*TOKENS, 9]}, 0, Issue.BLOCK_SIZE, 2),
        ({"block_size": 8}, 0, Issue.BLOCK_SIZE, 2),
        ({"block_size": -4}, 0, Issue.BLOCK_SIZE, 2),
        ({"group_idx": 1}, 0, Issue.OTHER_GROUP, 1),
        ({"lora_id": 2}, 0, Issue.ADAPTER_UNNAMED, 1),
        ({"token_ids": [2**32, *TOKENS[1:]]}, 0, Issue.MALFORMED, 1),
        ({"token_ids": [1.5, *TOKENS[1:]]}, 0, Issue.MALFORMED, 1),
        ({"token_ids": [[1, 2, 3]] * 8}, 0, Issue.MALFORMED, 1),
        ({"token_ids": "12345678"}, 0, Issue.MALFORMED, 1),
        ({"block_hashes": [b""], "token_ids": [1, 2, 3, 4]}, 0, Issue.MALFORMED, 1),
        ({"extra_keys": [None, ["image"]]}, 2, Issue.EXTRA_KEYS, 1),
        ({"cache_salt": "s"}, 2, Issue.EXTRA_KEYS, 1),
        ({"type": "BlockMoved"}, 0, Issue.MALFORMED, 1),
    ],
)
def test_what_cannot_be_used_is_counted(fields: dict[str, Any], kept: int, issue: Issue, count: int) -> None:
    events, issues = convert(stored(**fields), stored(block_hashes=[8, 9]))
    assert issues == {issue: count}
    assert events[-1] == StoredBlocks([8, 9], PLAIN)
    assert [event.block_ids for event in events[:-1] if isinstance(event, StoredBlocks)] == (
        [[1, 2][:kept]] * bool(kept)
    )


def test_first_groups_and_empty_extra_keys_are_nothing_special() -> None:
    assert convert(stored(group_idx=0, extra_keys=[None, None]))[1] == Counter()


def test_ids_are_one_number_however_they_are_written() -> None:
    digest = bytes(range(32))
    number = int.from_bytes(digest[-8:], "big")
    assert {block_id(digest), block_id(number), block_id(number - 2**64)} == {number}
    assert block_id(b"\x01") == 1
    with pytest.raises(InvalidRequest):
        block_id(b"")


def test_an_index_needs_a_block_size() -> None:
    with pytest.raises(InvalidRequest):
        EventConverter(0)


@pytest.mark.parametrize("value", [None, 1, [], [1.0], ["x", []], [1.0, 5], {"a": 1}, [1.0, [], "rank"]])
def test_what_is_no_batch_is_said(value: Any) -> None:
    with pytest.raises(BadBatch, match="cannot read a batch of KV events"):
        decode_batch(msgspec.msgpack.encode(value))


def test_a_batch_needs_no_rank_and_may_have_more() -> None:
    assert decode_batch(msgspec.msgpack.encode([1, []])).rank is None
    assert decode_batch(msgspec.msgpack.encode([1.0, [], 3, "more"])).rank == 3

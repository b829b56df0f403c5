"""KV events on the wire: what is encoded is decoded, and no bytes whatever do more than count."""

from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import ApplianceError, InvalidRequest
from appliance.core.kv_events import RemovedBlocks, StoredBlocks
from appliance.events.router_events import RouterEvent, read_router_event, write_router_events
from appliance.events.zmq_convert import ID_MASK, EventConverter
from appliance.events.zmq_frames import BadFrames, read_publication, read_reply, read_request
from appliance.events.zmq_wire import (
    AllBlocksCleared,
    BadBatch,
    BlockRemoved,
    BlockStored,
    Dialect,
    WireEvent,
    WireForm,
    decode_batch,
    encode_batch,
)
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import new_index

hashes = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40)
names = st.none() | st.text(max_size=6)
tokens = st.integers(0, 2**32 - 1)
stored = st.builds(
    BlockStored,
    block_hashes=st.lists(hashes, max_size=4),
    parent_block_hash=st.none() | hashes,
    token_ids=st.lists(tokens, max_size=9) | st.lists(st.lists(tokens, min_size=2, max_size=2), max_size=9),
    block_size=st.integers(-2, 5),
    lora_id=st.none() | st.integers(0, 3),
    medium=names,
    lora_name=names,
)
removed = st.builds(BlockRemoved, block_hashes=st.lists(hashes, max_size=4), medium=names)
events = st.lists(stored | removed | st.just(AllBlocksCleared()), max_size=5)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
kinds = st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared"])
odd_events = st.lists(
    st.builds(lambda kind, rest: [kind, *rest], kinds, st.lists(plain, max_size=7))
    | st.builds(
        lambda kind, rest: {**rest, "type": kind}, kinds, st.dictionaries(st.text(max_size=9), plain, max_size=5)
    ),
    max_size=4,
)


@given(events, st.sampled_from(WireForm), st.sampled_from(Dialect), st.none() | st.integers(0, 9))
def test_what_is_encoded_is_decoded(sent: list[WireEvent], form: WireForm, dialect: Dialect, rank: int | None) -> None:
    batch = decode_batch(encode_batch(1.5, sent, rank, form, dialect), dialect)
    assert (batch.timestamp, batch.events, batch.rank, sum(batch.issues.values())) == (1.5, sent, rank, 0)


def said_in_one_line(error: ApplianceError) -> None:
    """The error is fit for a log line."""
    assert error.message
    assert "\n" not in error.message


def must_convert(payload: bytes, dialect: Dialect) -> None:
    """Whatever comes out can be applied to an index."""
    try:
        batch = decode_batch(payload, dialect)
    except BadBatch as error:
        said_in_one_line(error)
        return
    index = new_index()
    for event in EventConverter(2).convert(batch)[0]:
        index.apply(Holder("1", 0), event)  # type: ignore[arg-type]
        if isinstance(event, StoredBlocks | RemovedBlocks):
            assert all(0 <= value <= ID_MASK for value in event.block_ids)


@given(st.binary(max_size=60), st.sampled_from(Dialect))
def test_any_bytes_are_a_batch_or_said_not_to_be(payload: bytes, dialect: Dialect) -> None:
    must_convert(payload, dialect)


@given(plain, st.sampled_from(Dialect))
def test_any_value_is_a_batch_or_said_not_to_be(value: Any, dialect: Dialect) -> None:
    must_convert(msgspec.msgpack.encode(value), dialect)


@given(odd_events, st.sampled_from(Dialect))
def test_any_fields_are_an_event_or_counted(value: list[Any], dialect: Dialect) -> None:
    payload = msgspec.msgpack.encode([1.0, value])
    batch = decode_batch(payload, dialect)
    assert len(batch.events) + sum(batch.issues.values()) == len(value)
    must_convert(payload, dialect)


@given(events, st.sampled_from(WireForm), st.sampled_from(Dialect), st.integers(0, 400), st.binary(max_size=3))
def test_a_damaged_batch_is_a_batch_or_said_not_to_be(
    sent: list[WireEvent], form: WireForm, dialect: Dialect, at: int, patch: bytes
) -> None:
    payload = encode_batch(1.5, sent, 0, form, dialect)
    at %= len(payload)
    must_convert(payload[:at] + patch + payload[at + len(patch) :], dialect)
    must_convert(payload[:at], dialect)


def test_deep_nesting_is_no_batch() -> None:
    for deep in (b"\x91" * 100_000, b"\x93\x01\x91" + b"\x91" * 100_000, b"\x92\x01\x91\x92\xa1x" + b"\x81\x01" * 9999):
        must_convert(deep, Dialect.VLLM)


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_any_frames_are_a_message_or_said_not_to_be(frames: list[bytes]) -> None:
    for read in (read_publication, read_request, read_reply):
        try:
            read(frames)
        except BadFrames as error:
            said_in_one_line(error)


@given(events)
def test_a_dump_in_router_events_restores_the_index(sent: list[WireEvent]) -> None:
    first, second, holder = new_index(), new_index(), Holder("7", 1)  # type: ignore[arg-type]
    for event in EventConverter(2).convert(decode_batch(encode_batch(1.0, sent)))[0]:
        first.apply(holder, event)
    text = msgspec.json.encode(list(write_router_events(first.dump())))
    for one in msgspec.json.decode(text, type=list[RouterEvent]):
        second.apply(*read_router_event(one))
    assert second.block_counts() == {name: counts for name, counts in first.block_counts().items() if any(counts)}
    again = [read_router_event(one) for one in write_router_events(second.dump())]
    assert again == [read_router_event(one) for one in write_router_events(first.dump())]


@given(plain)
def test_any_json_is_a_router_event_or_said_not_to_be(value: Any) -> None:
    with suppress(InvalidRequest, msgspec.ValidationError):
        read_router_event(msgspec.convert(value, RouterEvent))

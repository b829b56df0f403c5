"""The payloads that vLLM and SGLang publish over ZMQ: batches of KV events, in both wire forms, decoded and encoded.

Only the forms are known here; what an event means for the prefix index is decided in `zmq_convert.py`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from appliance.core.errors import ApplianceError

Hash = int | bytes
"""An engine's name of a block: a signed or unsigned 64-bit number, or a digest."""


class Dialect(StrEnum):
    """Whose field order an event in array form has. Events in map form need no dialect."""

    VLLM = "vllm"
    SGLANG = "sglang"


class WireForm(StrEnum):
    """How an event is written: a map with the key `type`, or an array that begins with the type."""

    MAP = "map"
    ARRAY = "array"


class Issue(StrEnum):
    """Why an event, or a part of one, was not taken as it stands; the names are label values of a counter."""

    MALFORMED = "malformed"
    """No event that we know, or a field of the wrong type."""
    BLOCK_SIZE = "block_size"
    """Blocks whose token count is not the index's block size, such as a short last page."""
    OTHER_GROUP = "other_group"
    """Blocks of a cache group other than the first one, which speaks for all."""
    ADAPTER_UNNAMED = "adapter_unnamed"
    """Blocks of an adapter that is given by a number only."""
    EXTRA_KEYS = "extra_keys"
    """Blocks that hold more than tokens (media, salts); taken, hashed by their tokens alone."""


class BadBatch(ApplianceError):
    """A payload that is no batch of KV events."""

    code, status, kind = "bad_batch", 400, "invalid_request_error"


class BlockStored(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="BlockStored"):
    """Blocks that can be reused from now on. The order of the fields is vLLM's in array form."""

    block_hashes: list[Hash]
    parent_block_hash: Hash | None
    token_ids: list[Any]
    """Flat; pairs of tokens in the bigram pages of speculative decoding."""
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: Any = None
    group_idx: int | None = None
    kv_cache_spec_kind: Any = None
    kv_cache_spec_sliding_window: Any = None
    locality: Any = None
    ownership: Any = None
    session_id: Any = None
    lookahead_token_ids: Any = None
    cache_salt: Any = None


class BlockRemoved(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="BlockRemoved"):
    """Blocks that are gone from a medium."""

    block_hashes: list[Hash]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, frozen=True, tag_field="type", tag="AllBlocksCleared"):
    """The engine has dropped its whole cache."""


WireEvent = BlockStored | BlockRemoved | AllBlocksCleared


@dataclass(frozen=True)
class Batch:
    """One decoded payload."""

    timestamp: float
    """Seconds of the publisher's clock."""
    events: list[WireEvent]
    rank: int | None = None
    """Data-parallel rank, when the publisher names it."""
    issues: Counter[Issue] = field(default_factory=Counter)
    """What was left out."""


class _VllmStored(BlockStored, array_like=True, frozen=True, tag="BlockStored"):
    pass


class _SglangStored(msgspec.Struct, array_like=True, frozen=True, tag="BlockStored"):
    block_hashes: list[Hash]
    parent_block_hash: Hash | None
    token_ids: list[Any]
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    cache_salt: Any = None
    session_id: Any = None
    lora_name: str | None = None


class _RemovedArray(BlockRemoved, array_like=True, frozen=True, tag="BlockRemoved"):
    pass


class _ClearedArray(AllBlocksCleared, array_like=True, frozen=True, tag="AllBlocksCleared"):
    pass


class _RawBatch(msgspec.Struct, array_like=True):
    timestamp: float
    events: list[msgspec.Raw]
    rank: int | None = None


_BATCH = msgspec.msgpack.Decoder(_RawBatch)
_MAP = msgspec.msgpack.Decoder(WireEvent)
_ARRAYS = {
    Dialect.VLLM: msgspec.msgpack.Decoder(_VllmStored | _RemovedArray | _ClearedArray),
    Dialect.SGLANG: msgspec.msgpack.Decoder(_SglangStored | _RemovedArray | _ClearedArray),
}
_ARRAY_FIELDS = {
    # vLLM has no `cache_salt`: what stands in its place is a field that we do not know.
    _VllmStored: tuple(name for name in _VllmStored.__struct_fields__ if name != "cache_salt"),
    _SglangStored: _SglangStored.__struct_fields__,
}
_ENCODER = msgspec.msgpack.Encoder()
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)


def decode_batch(payload: bytes, dialect: Dialect = Dialect.VLLM) -> Batch:
    """The batch in a payload; events that cannot be read are left out and counted.

    Trailing fields may be absent, and ones that we do not know are passed over. Raises `BadBatch` when there is no
    batch at all, and nothing else, whatever the bytes are.
    """
    try:
        raw = _BATCH.decode(payload)
    except _FAULTS as error:
        raise BadBatch(f"cannot read a batch of KV events: {error}") from None
    batch = Batch(raw.timestamp, [], raw.rank)
    for one in raw.events:
        event = _decode_event(bytes(one), dialect)
        if event is None:
            batch.issues[Issue.MALFORMED] += 1
        else:
            batch.events.append(event)
    return batch


def encode_batch(
    timestamp: float,
    events: Sequence[WireEvent],
    rank: int | None = None,
    form: WireForm = WireForm.MAP,
    dialect: Dialect = Dialect.VLLM,
) -> bytes:
    """A batch as a publisher sends it. Hashes must be 64-bit numbers or bytes, in either form."""
    body: list[Any] = list(events)
    if form is WireForm.ARRAY:
        body = [_as_array(event, dialect) for event in events]
    return _ENCODER.encode([timestamp, body, rank])


def _decode_event(raw: bytes, dialect: Dialect) -> WireEvent | None:
    is_map = raw[:1] in (b"\xde", b"\xdf") or raw[0] & 0xF0 == 0x80
    try:
        event: WireEvent | _SglangStored = _MAP.decode(raw) if is_map else _ARRAYS[dialect].decode(raw)
    except _FAULTS:
        return None
    match event:
        case _SglangStored() | _VllmStored():
            return BlockStored(**{name: getattr(event, name) for name in _ARRAY_FIELDS[type(event)]})
        case _RemovedArray():
            return BlockRemoved(event.block_hashes, event.medium, event.group_idx)
        case _ClearedArray():
            return AllBlocksCleared()
    return event


def _as_array(event: WireEvent, dialect: Dialect) -> list[Any]:
    if isinstance(event, AllBlocksCleared):
        return ["AllBlocksCleared"]
    if isinstance(event, BlockRemoved):
        names = BlockRemoved.__struct_fields__
    else:
        names = _ARRAY_FIELDS[_SglangStored if dialect is Dialect.SGLANG else _VllmStored]
    return [type(event).__name__, *(getattr(event, name) for name in names)]

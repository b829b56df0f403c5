"""The rules of object versions, pure: what a put or a status update makes of the stored object.

Both stores use them, so that memory and SQLite cannot drift apart.
"""

from typing import Any, Literal

import msgspec

from appliance.core.errors import Conflict, Unprocessable
from appliance.core.records import LedgerEvent, ObjectChange, StoredObject

EVENT_ROWS = 10_000  # ledger rows that are kept: days of a busy box, a few MB


def encode_json(value: object) -> bytes:
    """JSON with members in their order. Raises `Unprocessable` for what JSON cannot hold."""
    return _encode(value, None)


def decode_json(text: bytes | str) -> dict[str, Any]:
    """A fresh plain dict of stored JSON."""
    return msgspec.json.decode(text, type=dict[str, Any])


def apply_put(stored: StoredObject | None, wanted: StoredObject, version: int, now: float) -> StoredObject:
    """The object to store for `put(wanted)`; `stored` itself when nothing would change.

    `version` is the store's next resource version, `now` unix seconds. Raises `Conflict` when `wanted` was based on
    another version than the stored one, `Unprocessable` when it has no kind or name.
    """
    _check_base(stored, wanted)
    wanted = _as_json(wanted)
    if stored is None:
        return msgspec.structs.replace(wanted, status={}, generation=1, resource_version=version, created_at=now)
    spec_is_same = _same(stored.spec, wanted.spec)
    if spec_is_same and _same(stored.metadata, wanted.metadata) and stored.api_version == wanted.api_version:
        return stored
    return msgspec.structs.replace(
        wanted,
        status=stored.status,
        generation=stored.generation + (0 if spec_is_same else 1),
        resource_version=version,
        created_at=stored.created_at,
    )


def apply_status(stored: StoredObject, status: dict[str, object], version: int) -> StoredObject:
    """The object to store for a new status; `stored` itself when it is the same."""
    if _same(stored.status, status):
        return stored
    return msgspec.structs.replace(stored, status=decode_json(encode_json(status)), resource_version=version)


def copy_object(obj: StoredObject) -> StoredObject:
    """The same object without shared dicts: what watchers get is not what the writer holds."""
    return msgspec.json.decode(msgspec.json.encode(obj), type=StoredObject)


def deletion(stored: StoredObject, version: int) -> ObjectChange:
    """The change that watchers see when `stored` goes; it carries the version at which it went."""
    return ObjectChange("DELETED", msgspec.structs.replace(copy_object(stored), resource_version=version))


def stamp_event(event: LedgerEvent, number: int, now: float) -> LedgerEvent:
    """The event as it is kept: with its number, and with a time when it had none."""
    return msgspec.structs.replace(event, id=number, at=event.at or now, inputs=decode_json(encode_json(event.inputs)))


def subject_matches(subject: str, wanted: str | None) -> bool:
    """Whether a ledger query for `wanted` gives events of `subject`: exactly, or as a prefix that ends in `/`."""
    if wanted is None:
        return True
    return subject.startswith(wanted) if wanted.endswith("/") else subject == wanted


def _check_base(stored: StoredObject | None, wanted: StoredObject) -> None:
    if not wanted.kind or not wanted.name:
        raise Unprocessable("cannot store an object without kind and name")
    present = stored.resource_version if stored else 0
    if wanted.resource_version and wanted.resource_version != present:
        reason = f"version {present} is stored" if stored else "it is not stored"
        raise Conflict(
            f"cannot write {wanted.kind} {wanted.name}: based on version {wanted.resource_version}, but {reason}"
        )


def _same(one: object, other: object) -> bool:
    # Python's == takes True for 1 and 1 for 1.0; a document that says otherwise has changed.
    return _encode(one, "sorted") == _encode(other, "sorted")


def _as_json(obj: StoredObject) -> StoredObject:
    # Through JSON and back: what is returned is what a later read gives, and shares nothing with the caller.
    spec, metadata = decode_json(encode_json(obj.spec)), decode_json(encode_json(obj.metadata))
    return msgspec.structs.replace(obj, spec=spec, metadata=metadata)


def _encode(value: object, order: Literal["sorted"] | None) -> bytes:
    try:
        return msgspec.json.encode(value, order=order)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unprocessable(f"cannot store the object: {error}") from error

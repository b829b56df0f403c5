"""What a server says of its models at `/v1/models`."""

from dataclasses import dataclass
from typing import Any

from appliance.core.errors import EngineFailed, ModelFileBad
from appliance.engines.foreign.refusals import refusal
from appliance.engines.http.client import HttpClient

LIST_S = 10.0
MOST_NAMES = 12  # in an error
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """One entry of the list."""

    name: str
    context_length: int | None = None
    """None: the server does not say."""


async def list_models(client: HttpClient) -> list[ListedModel] | None:
    """The models of a server; None when it has no such route. Raises `ServerLost`, `WorkerTimeout`, `EngineFailed`."""
    answer = await client.request("GET", "/v1/models", deadline_s=LIST_S)
    if answer.status in (404, 405, 501):
        return None
    if not answer.ok:
        raise refusal(answer)
    body = answer.json()
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        raise EngineFailed(f"the list of models at {client.address.url} cannot be read")
    named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    return [ListedModel(name=entry["id"], context_length=_context(entry)) for entry in named]


def find_model(listed: list[ListedModel] | None, name: str, url: str) -> ListedModel:
    """The entry of a name. Raises `ModelFileBad` when the list has others only."""
    if listed is None:
        return ListedModel(name=name)
    for entry in listed:
        if entry.name == name:
            return entry
    names = [entry.name for entry in listed]
    shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    raise ModelFileBad(f"the server at {url} has no model {name!r}; it has {shown or 'none'}")


def _context(entry: dict[str, Any]) -> int | None:
    meta = entry.get("meta")
    values = [entry.get(key) for key in _CONTEXT_KEYS]
    if isinstance(meta, dict):
        values += [meta.get("n_ctx"), meta.get("n_ctx_train")]
    return next((value for value in values if isinstance(value, int) and value > 0), None)

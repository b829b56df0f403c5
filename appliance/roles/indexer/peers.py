"""Other indexers: known by address, and asked for all they know when this one starts."""

import logging
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec
import trio

from appliance.core.errors import ApplianceError, InvalidRequest, NotFound
from appliance.events.router_events import RouterEvent, read_router_event
from appliance.roles.indexer.registry import ModelKey, Registry

log = logging.getLogger(__name__)

ANSWER_S = 10.0
DUMP_BYTES = 1 << 30


class PeerLost(ApplianceError):
    """A peer that did not answer, or not with a dump."""

    code, status, retryable = "peer_lost", 503, True


class IndexDump(msgspec.Struct):
    """All of one index, as events."""

    block_size: int
    events: list[RouterEvent]


class Peers:
    """The addresses of other indexers, each once, in the order in which they came."""

    def __init__(self, urls: Iterable[str] = ()) -> None:
        self._urls: dict[str, None] = {}
        for url in urls:
            self.register(url)

    def register(self, url: str) -> None:
        """Know a peer. Raises `InvalidRequest` for what is no http URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidRequest(f"invalid peer URL `{url}`: it must begin with http:// or https://", param="url")
        self._urls[url] = None

    def deregister(self, url: str) -> None:
        """No longer know a peer. Raises `NotFound`."""
        if url not in self._urls:
            raise NotFound("peer not found")
        del self._urls[url]

    def urls(self) -> list[str]:
        """All addresses."""
        return list(self._urls)


async def recover(registry: Registry, peers: Peers, block_size: int) -> None:
    """Begin with what the first peer that answers knows of indexes with our block size."""
    for name, one in (await fetch_first(peers)).items():
        if one.block_size == block_size:
            _replay(registry, name, one)


async def fetch_first(peers: Peers) -> dict[str, IndexDump]:
    """What the first peer that answers knows; nothing when none does. Those that do not are logged."""
    for url in peers.urls():
        try:
            dumps = await trio.to_thread.run_sync(fetch_dump, url, abandon_on_cancel=True)
        except PeerLost as error:
            log.warning("%s", error.message)
            continue
        log.info("recovered from a peer url=%s indexes=%s", url, len(dumps))
        return dumps
    return {}


def fetch_dump(url: str) -> dict[str, IndexDump]:
    """What a peer knows, by `model:tenant`. Blocks. Raises `PeerLost`."""
    # No proxy of the environment: peers are neighbours.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url.rstrip("/") + "/dump", timeout=ANSWER_S) as answer:
            body = answer.read(DUMP_BYTES)
        return msgspec.json.decode(body, type=dict[str, IndexDump])
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise PeerLost(f"cannot recover from {url}: {error}") from None


def _replay(registry: Registry, name: str, one: IndexDump) -> None:
    model, _, tenant = name.rpartition(":")
    key = ModelKey(model, tenant)
    kept = registry.model_of(key, one.block_size)
    registry.models[key] = kept
    for event in one.events:
        try:
            kept.index.apply(*read_router_event(event))
        except InvalidRequest as error:
            log.warning("a peer's event was left out: %s", error.message)

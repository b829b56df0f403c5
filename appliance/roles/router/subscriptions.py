"""Which publishers are followed for which worker of the selection service."""

from collections.abc import Iterator

from appliance.core.errors import InvalidRequest
from appliance.core.kv_events import KvEvent
from appliance.events.zmq_subscriber import Source
from appliance.roles.indexer.listeners import Listener, Listeners
from appliance.roles.indexer.registry import holder_of
from appliance.roles.router.bodies import Worker
from appliance.roles.router.selection import Group
from appliance.routing.index_events import Holder
from appliance.routing.prefixes import Prefixes


class PrefixFeed:
    """Feeds one rank's events into what a group knows of prefixes."""

    def __init__(self, prefixes: Prefixes, holder: Holder) -> None:
        self._prefixes, self._holder = prefixes, holder

    def take(self, events: list[KvEvent]) -> None:
        """Apply, in order."""
        self._prefixes.apply(self._holder, events)

    def forget(self) -> None:
        """Drop all blocks of this rank."""
        self._prefixes.forget_worker(*self._holder)


class Subscriptions:
    """The listeners of all workers."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._of: dict[int, list[Listener]] = {}

    def follow(self, worker: Worker, group: Group) -> None:
        """Listen to a worker's publishers, and no longer to those of its former form. Raises as `sources_of` does."""
        sources = dict(sources_of(worker))
        self.unfollow(worker.worker_id)
        self._of[worker.worker_id] = [
            self._listeners.start(
                source, group.block_size, PrefixFeed(group.prefixes, holder_of(worker.worker_id, rank))
            )
            for rank, source in sources.items()
        ]

    def unfollow(self, worker_id: int) -> None:
        """Listen to a worker no longer."""
        for listener in self._of.pop(worker_id, ()):
            self._listeners.close(listener)

    def statuses(self, worker_id: int) -> dict[str, str]:
        """The status of each publisher of a worker, by endpoint."""
        return {one.source.endpoint: one.status.value for one in self._of.get(worker_id, ())}


def sources_of(worker: Worker) -> Iterator[tuple[int, Source]]:
    """The publishers of a worker by rank. Raises `InvalidRequest` for bad endpoints and for ranks it does not have."""
    for name, endpoint in worker.kv_events_endpoints.items():
        if not (name.isascii() and name.isdecimal()) or int(name) not in worker.ranks:
            raise InvalidRequest(f"kv_events_endpoints names rank {name}, which the worker does not have")
        replay = worker.replay_endpoint
        if replay:
            replay = _offset(replay, int(name) - worker.data_parallel_start_rank)
        yield int(name), Source(endpoint=endpoint, replay_endpoint=replay or None)


def _offset(endpoint: str, by: int) -> str | None:
    """The endpoint of a following rank: the following port; None where there are no ports to count."""
    if not by:
        return endpoint
    head, colon, port = endpoint.rpartition(":")
    return f"{head}:{int(port) + by}" if endpoint.startswith("tcp:") and colon and port.isdecimal() else None

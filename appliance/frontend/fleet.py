"""Keeps links, catalogue and router in step with the workers that discovery reports."""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Protocol

import trio

from appliance.core.errors import ApplianceError, Conflict, WorkerLost
from appliance.core.identity import Digest, ModelName, RequestId, WorkerId
from appliance.core.ports import WorkerTransport
from appliance.core.records import WorkerRecord
from appliance.core.requests import ModelCard
from appliance.frontend.catalog import Catalog
from appliance.routing.router import Router, RoutingRequest

log = logging.getLogger(__name__)

REJOIN_S = 0.2  # a worker may report ready a moment before its socket takes connections
REJOIN_CAP_S = 2.0  # of the growing pause between tries


class CacheFollower(Protocol):
    """Keeps an index of what workers say of their caches."""

    def add(self, worker: WorkerId, ranks: range) -> None:
        """Follow a linked worker."""
        ...

    def remove(self, worker: WorkerId) -> None:
        """Forget what a worker holds. Unknown workers are no error."""
        ...


class Fleet:
    """The workers this front end can reach.

    `apply` may be called at any time with the whole picture; joining a worker (connect, fetch files, build the
    tokenizer) runs beside, in the nursery given.
    """

    def __init__(
        self,
        transport: WorkerTransport,
        catalog: Catalog,
        router: Router,
        nursery: trio.Nursery,
        caches: CacheFollower | None = None,
    ) -> None:
        """`caches` is told of the workers that say what their caches hold, once the router knows them."""
        self._transport, self._catalog, self._router, self._nursery = transport, catalog, router, nursery
        self._caches = caches
        self._wanted: dict[WorkerId, WorkerRecord] = {}
        self._joining: set[WorkerId] = set()
        self._joined: set[WorkerId] = set()
        self._lost_meanwhile: set[WorkerId] = set()
        """Workers whose link ended while they were being joined."""

    def apply(self, workers: Iterable[WorkerRecord]) -> None:
        """Join ready workers, withdraw draining ones, leave vanished ones."""
        present = {worker.id: worker for worker in workers}
        self._wanted = {id_: worker for id_, worker in present.items() if worker.phase == "ready"}
        for worker in self._wanted.values():
            self._start_joining(worker)
        for id_ in self._joined - self._wanted.keys():
            self._withdraw(id_)
        for id_ in self._joined - present.keys():
            self._joined.discard(id_)
            self._nursery.start_soon(self._transport.disconnect, id_)
        self._router.look_again()

    def on_lost(self, worker: WorkerId, reason: str) -> None:
        """A link ended by itself: place nothing there, and join again if the worker is still reported ready."""
        self._withdraw(worker)
        self._joined.discard(worker)
        self._lost_meanwhile.add(worker)
        log.warning("link lost worker=%s reason=%s", worker, reason)
        if worker in self._wanted:
            self._start_joining(self._wanted[worker])

    def on_draining(self, worker: WorkerId) -> None:
        """The worker itself says that it takes no more."""
        self._withdraw(worker)

    def _withdraw(self, worker: WorkerId) -> None:
        if self._caches is not None:
            self._caches.remove(worker)
        self._router.withdraw(worker)

    def _start_joining(self, worker: WorkerRecord) -> None:
        if worker.id not in self._joined and worker.id not in self._joining:
            self._joining.add(worker.id)
            self._nursery.start_soon(self._join, worker)

    async def _join(self, worker: WorkerRecord) -> None:
        """Try until it works or the worker is no longer wanted."""
        said, pause_s = "", REJOIN_S
        try:
            while worker.id in self._wanted:
                try:
                    await self._join_once(worker)
                except ApplianceError as error:
                    if error.message != said:
                        said = error.message
                        log.warning("cannot use worker yet worker=%s error=%s", worker.id, said)
                    await trio.sleep(pause_s)
                    pause_s = min(2 * pause_s, REJOIN_CAP_S)
                else:
                    return
        finally:
            self._joining.discard(worker.id)
            self._lost_meanwhile.discard(worker.id)

    async def _join_once(self, worker: WorkerRecord) -> None:
        self._lost_meanwhile.discard(worker.id)
        card = await self._transport.connect(worker.id, worker.address)
        try:
            await self._learn(worker.id, card)
        except ApplianceError:
            await self._transport.disconnect(worker.id)
            raise
        self._joined.add(worker.id)
        if worker.id in self._wanted:
            self._router.add(worker.id, card)
            if card.kv_events and self._caches is not None:
                self._caches.add(worker.id, range(card.rank, card.rank + card.ranks))

    async def _learn(self, worker: WorkerId, card: ModelCard) -> None:
        """Get what is needed to use the worker. Raises `Conflict` while another model is served under its name."""
        self._refuse_clash(card)
        fetched: dict[Digest, bytes] = {}
        # In a loop: files that were there may have been dropped while others were fetched.
        while missing := [digest for digest in self._catalog.missing_files(card) if digest not in fetched]:
            fetched[missing[0]] = await self._transport.read_file(worker, missing[0])
        await self._catalog.learn(card, fetched, partial(self._tokenize, card.name))
        self._refuse_clash(card)  # two may have been learning at once
        if worker in self._lost_meanwhile:
            raise WorkerLost(f"the link to worker {worker} ended while its model was learnt")

    def _refuse_clash(self, card: ModelCard) -> None:
        """Token ids of one model mean nothing to another; the one that is served now stays until its workers go."""
        router = self._router
        served = router.ready_workers(card.name) or router.prefill_workers(card.name)
        if served and self._catalog.clashes(card):
            raise Conflict(f"another model is served as {card.name!r}; give one of them another --served-model-name")

    async def _tokenize(self, model: ModelName, text: str) -> list[int]:
        """Token ids of a text by any ready worker of the model. Raises `ModelNotReady`, `WorkerLost`."""
        with await self._router.place(RoutingRequest(id=RequestId(""), model=model)) as placement:
            return await self._transport.tokenize(placement.worker, text, special=True)

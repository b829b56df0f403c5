"""The router for other people's programs: pick workers for prompts, and keep their load up to date. A stable interface.

Workers are named by unsigned numbers. All calls are to be made from one trio program; `README.md` has an example.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from random import Random
from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest, NotFound
from appliance.core.generation import NO_PINS, Pins, RouterOverrides, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.kv_events import KvEvent, StoredBlocks, Tier
from appliance.core.ports import StreamSink
from appliance.core.requests import EngineRequest, ModelCard, TokenChunk
from appliance.core.settings import RouterSettings
from appliance.routing.router import Placement, Router, RoutingRequest

OpenStream = Callable[[int, EngineRequest, StreamSink], AbstractContextManager[None]]
"""Starts a stream on a worker; leaving the block cancels it. `WorkerTransport.open` has this form."""

MODEL = ModelName("model")
TIERS = {Tier.DEVICE: "device", Tier.HOST_PINNED: "host_pinned", Tier.DISK: "disk"}


class KvRouter:
    """Routes the prompts of one model over workers by what they have cached and what they are doing."""

    def __init__(
        self,
        block_size: int,
        settings: RouterSettings | None = None,
        open_stream: OpenStream | None = None,
        *,
        source: Random | None = None,
    ) -> None:
        """`settings` are those of the router, mode `kv` by default. `open_stream` is needed by `generate` only."""
        if block_size < 1:
            raise InvalidRequest(f"cannot route with blocks of {block_size} tokens")
        self._block_size, self._open_stream = block_size, open_stream
        self._router = Router(settings or RouterSettings(mode="kv"), source=source)
        self._placed: dict[str, Placement] = {}
        self._ids: dict[WorkerId, int] = {}

    def add_worker(
        self,
        worker_id: int,
        *,
        ranks: int = 1,
        first_rank: int = 0,
        kv_events: bool = False,
        total_kv_blocks: int = 0,
        max_num_batched_tokens: int = 0,
        taints: Iterable[str] = (),
    ) -> None:
        """A worker takes requests. Without `kv_events` its cache is guessed from what was placed there."""
        worker = WorkerId(str(worker_id))
        self._ids[worker] = worker_id
        card = ModelCard(
            name=MODEL,
            context_length=0,
            engine="",
            block_size=self._block_size,
            rank=first_rank,
            ranks=ranks,
            kv_events=kv_events,
            total_kv_blocks=total_kv_blocks,
            max_num_batched_tokens=max_num_batched_tokens,
            taints=tuple(taints),
        )
        self._router.add(worker, card)

    def remove_worker(self, worker_id: int) -> None:
        """A worker is gone. Requests that were placed there are still to be freed."""
        self._router.withdraw(WorkerId(str(worker_id)))

    def apply_kv_events(self, worker_id: int, dp_rank: int, events: Iterable[KvEvent]) -> None:
        """What a worker says of a rank's cache, in order."""
        self._router.apply_kv_events(WorkerId(str(worker_id)), dp_rank, events)

    async def best_worker(
        self,
        token_ids: Sequence[int],
        *,
        router_config_override: RouterOverrides | None = None,
        request_id: str | None = None,
        update_indexer: bool = False,
        block_mm_infos: Mapping[int, Iterable[int]] | None = None,
        lora_name: str = "",
    ) -> tuple[int, int, int]:
        """The best worker, its rank, and the blocks of the prompt in its device memory.

        With `request_id` the request counts as load until `free`; an id that counts already is not counted again.
        `update_indexer` has a guessing index take the prompt as cached there. Waits while all workers have prompts
        enough to compute. `block_mm_infos`: hashes of media by block number. Raises `InvalidRequest` without tokens,
        `ModelNotReady` without workers, `Overloaded`.
        """
        request = self._request(token_ids, router_config_override, block_mm_infos, lora_name)
        book = request_id is not None and request_id not in self._placed
        request.hints = msgspec.structs.replace(request.hints, query_only=not book)
        request.id = RequestId(request_id or "")
        request.remember = update_indexer
        placement = await self._router.place(request)
        if book and request_id is not None:
            self._placed[request_id] = placement
        return self._ids[placement.worker], placement.rank, placement.overlap_blocks

    def get_potential_loads(
        self,
        token_ids: Sequence[int],
        *,
        block_mm_infos: Mapping[int, Iterable[int]] | None = None,
        lora_name: str = "",
    ) -> list[dict[str, int]]:
        """By rank: `worker_id`, `dp_rank`, `potential_prefill_tokens`, `potential_decode_blocks` with this prompt.

        Books nothing. Raises `InvalidRequest` without tokens, `ModelNotReady` without workers.
        """
        rows = self._router.potential_loads(self._request(token_ids, None, block_mm_infos, lora_name))
        return [{**row, "worker_id": self._ids[row["worker_id"]]} for row in rows]

    @asynccontextmanager
    async def generate(
        self,
        request: EngineRequest,
        sink: StreamSink,
        *,
        router_config_override: RouterOverrides | None = None,
        worker_id: int | None = None,
        dp_rank: int | None = None,
    ) -> AsyncIterator[tuple[int, int]]:
        """Place a request and stream it into `sink`; gives worker and rank. Leaving the block cancels and frees.

        `worker_id` pins the worker, `dp_rank` the rank. Raises what `best_worker` raises, `InvalidRequest` for a worker
        that is not there, and what `open_stream` raises.
        """
        if self._open_stream is None:
            raise InvalidRequest("this router was made without a way to open streams")
        wish = self._request(request.token_ids, router_config_override, None, request.lora)
        wish.id = request.id
        number = None if worker_id is None else instance_number(WorkerId(str(worker_id)))
        wish.pins = NO_PINS if number is None and dp_rank is None else Pins(worker=number, dp_rank=dp_rank)
        with await self._router.place(wish) as placement:
            chosen = self._ids[placement.worker]
            if placement.engine_rank is not None:
                request = msgspec.structs.replace(request, rank=placement.engine_rank)
            with self._open_stream(chosen, request, _Counted(sink, placement)):
                yield chosen, placement.rank

    def mark_prefill_complete(self, request_id: str) -> None:
        """The first token of a booked request is there; twice is once. Raises `NotFound` for one that is not booked."""
        placement = self._placed.get(request_id)
        if placement is None:
            raise NotFound(f"request {request_id} not found")
        placement.prefill_complete()

    def free(self, request_id: str) -> None:
        """A booked request has ended. An unknown one changes nothing."""
        placement = self._placed.pop(request_id, None)
        if placement is not None:
            placement.__exit__(None, None, None)

    def dump_events(self) -> str:
        """All that is known of the workers' caches, as JSON text: a list of router events that store it."""
        events = (entry for index in self._router.prefix_indexes() for entry in index.dump())
        found = [
            _document(self._ids[holder.worker], holder.rank, event, number)
            for number, (holder, event) in enumerate(events)
        ]
        return msgspec.json.encode(found).decode()

    def _request(
        self,
        token_ids: Sequence[int],
        overrides: RouterOverrides | None,
        media: Mapping[int, Iterable[int]] | None,
        lora: str,
    ) -> RoutingRequest:
        if not token_ids:
            raise InvalidRequest("cannot route a prompt without tokens", param="token_ids")
        hints = RoutingHints(overrides=overrides)
        return RoutingRequest(
            id=RequestId(""), model=MODEL, token_ids=token_ids, lora=lora, media=media or None, hints=hints
        )


class _Counted:
    """A sink that tells the router what arrives."""

    def __init__(self, sink: StreamSink, placement: Placement) -> None:
        self._sink, self._placement, self._tokens = sink, placement, 0
        self.on_error, self.flush = sink.on_error, sink.flush

    def on_chunk(self, chunk: TokenChunk) -> None:
        """See `StreamSink`."""
        if chunk.token_ids:
            self._tokens += len(chunk.token_ids)
            self._placement.prefill_complete()
            if self._placement.tracks_output:
                self._placement.output(self._tokens)
        self._sink.on_chunk(chunk)


def _document(worker_id: int, rank: int, event: KvEvent, number: int) -> dict[str, Any]:
    data: dict[str, Any]
    if isinstance(event, StoredBlocks):
        blocks = zip(event.block_ids, event.local_hashes, strict=True)
        stored = [{"block_hash": name, "tokens_hash": local} for name, local in blocks]
        data = {"stored": {"parent_hash": event.parent, "blocks": stored}}
        tier = event.tier
    else:  # what precedes a hole is stored and then removed
        tier = Tier.DEVICE
        data = {"removed": {"block_hashes": getattr(event, "block_ids", [])}}
    return {
        "worker_id": worker_id,
        "storage_tier": TIERS[tier],
        "event": {"event_id": number, "dp_rank": rank, "data": data},
    }

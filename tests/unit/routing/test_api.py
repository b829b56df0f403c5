"""The interface for other people's routers: the measured example, and everything that can go wrong with it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from appliance.core.errors import ApplianceError, InvalidRequest, ModelNotReady, NotFound
from appliance.core.identity import ModelName, RequestId
from appliance.core.kv_events import StoredBlocks
from appliance.core.ports import StreamSink
from appliance.core.requests import EngineRequest, StopConditions, TokenChunk
from appliance.core.settings import RouterSettings
from appliance.routing.api import KvRouter
from appliance.routing.block_hash import local_hashes, sequence_hashes

APPROXIMATE = RouterSettings(mode="kv", kv_events=False)


def loads(router: KvRouter, tokens: range) -> dict[int, tuple[int, int]]:
    return {
        row["dp_rank"]: (row["potential_prefill_tokens"], row["potential_decode_blocks"])
        for row in router.get_potential_loads(tokens)
    }


def three_ranks(settings: RouterSettings = APPROXIMATE) -> KvRouter:
    router = KvRouter(16, settings, source=Random(1))
    router.add_worker(7, ranks=3)
    return router


async def test_the_measured_example() -> None:
    router = three_ranks()
    prompt, other = range(64), range(1000, 1070)
    assert loads(router, prompt) == dict.fromkeys(range(3), (64, 4))
    worker, rank, overlap = await router.best_worker(prompt, request_id="a", update_indexer=True)
    assert (worker, overlap) == (7, 0)
    rest = [number for number in range(3) if number != rank]
    assert loads(router, prompt) == {rank: (64, 4)} | dict.fromkeys(rest, (64, 4))
    assert loads(router, other) == {rank: (134, 8)} | dict.fromkeys(rest, (70, 4))
    router.mark_prefill_complete("a")
    router.mark_prefill_complete("a")
    assert loads(router, prompt)[rank] == (0, 4)
    assert (await router.best_worker(prompt))[1:] == (rank, 4)
    router.free("a")
    router.free("a")
    assert loads(router, other) == dict.fromkeys(range(3), (70, 4))


async def test_asking_books_nothing_but_may_be_remembered() -> None:
    router = three_ranks()
    await router.best_worker(range(64))
    assert router.dump_events() == "[]"
    _, rank, _ = await router.best_worker(range(64), update_indexer=True)
    assert loads(router, range(64))[rank] == (0, 4)
    (event,) = json.loads(router.dump_events())
    local = local_hashes(range(64), 16)
    assert event["worker_id"] == 7
    assert event["event"]["dp_rank"] == rank
    assert event["event"]["data"]["stored"]["parent_hash"] is None
    assert event["event"]["data"]["stored"]["blocks"] == [
        {"block_hash": name, "tokens_hash": tokens} for name, tokens in zip(sequence_hashes(local), local, strict=True)
    ]


async def test_an_id_that_counts_is_not_counted_again() -> None:
    router = three_ranks()
    await router.best_worker(range(64), request_id="a")
    await router.best_worker(range(640), request_id="a")
    assert sum(decode for _, decode in loads(router, range(1000, 1001)).values()) == 4
    router.free("a")
    assert loads(router, range(1000, 1001)) == dict.fromkeys(range(3), (1, 0))


async def test_without_reuse_the_same_prompt_counts_twice() -> None:
    router = KvRouter(16, RouterSettings(mode="kv", assume_kv_reuse=False))
    router.add_worker(1)
    await router.best_worker(range(64), request_id="a")
    await router.best_worker(range(64), request_id="b")
    assert loads(router, range(5000, 5001))[0][1] == 8


async def test_a_prompt_shorter_than_a_block_is_routed() -> None:
    assert (await three_ranks().best_worker([1, 2]))[2] == 0
    assert loads(three_ranks(), range(2)) == dict.fromkeys(range(3), (2, 0))


async def test_events_decide() -> None:
    router = KvRouter(4)
    router.add_worker(1, kv_events=True)
    router.add_worker(2**64 - 1, kv_events=True)
    local = local_hashes(range(8), 4)
    router.apply_kv_events(2**64 - 1, 0, [StoredBlocks([5, 6], list(local))])
    assert await router.best_worker(range(9)) == (2**64 - 1, 0, 2)
    router.remove_worker(2**64 - 1)
    assert await router.best_worker(range(9)) == (1, 0, 0)


async def test_what_cannot_be_routed_is_one_clear_error() -> None:
    router = KvRouter(16)
    with pytest.raises(ModelNotReady):
        await router.best_worker([1])
    router.add_worker(1)
    for ask in (router.get_potential_loads, router.best_worker):
        with pytest.raises(InvalidRequest, match="without tokens"):
            await ask([])  # type: ignore[misc]  # the first one raises before there is anything to await
    with pytest.raises(InvalidRequest):
        await router.best_worker([-1] * 16)
    with pytest.raises(NotFound, match="request x not found"):
        router.mark_prefill_complete("x")
    with pytest.raises(InvalidRequest):
        KvRouter(0)


class Sink:
    def __init__(self) -> None:
        self.tokens: list[int] = []

    def on_chunk(self, chunk: TokenChunk) -> None:
        self.tokens += chunk.token_ids

    def on_error(self, error: ApplianceError) -> None: ...

    def flush(self) -> None: ...


async def test_streams_count_while_they_run() -> None:
    opened: list[tuple[int, EngineRequest, StreamSink]] = []

    @contextmanager
    def open_stream(worker: int, request: EngineRequest, sink: StreamSink) -> Iterator[None]:
        opened.append((worker, request, sink))
        yield

    router = KvRouter(16, APPROXIMATE, open_stream)
    router.add_worker(1, ranks=2)
    router.add_worker(2, ranks=2)
    request = EngineRequest(
        id=RequestId("r"), model=ModelName("m"), token_ids=list(range(64)), stop=StopConditions(max_tokens=5)
    )
    sink = Sink()
    async with router.generate(request, sink, worker_id=2, dp_rank=1) as place:
        assert place == (2, 1)
        worker, sent, counted = opened[0]
        assert (worker, sent.rank) == (2, 1)
        other = router.get_potential_loads(range(5000, 5016))
        assert [row["potential_prefill_tokens"] for row in other] == [16, 16, 16, 80]
        counted.on_chunk(TokenChunk(0, [9]))
        assert sink.tokens == [9]
        other = router.get_potential_loads(range(5000, 5016))
        assert [row["potential_prefill_tokens"] for row in other] == [16, 16, 16, 16]
        assert other[3]["potential_decode_blocks"] == 5
    assert {row["potential_decode_blocks"] for row in router.get_potential_loads(range(5000, 5016))} == {1}
    with pytest.raises(InvalidRequest, match="no worker instance"):
        async with router.generate(request, sink, worker_id=9):
            pass
    with pytest.raises(InvalidRequest, match="open streams"):
        async with KvRouter(16).generate(request, sink):
            pass

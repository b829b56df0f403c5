"""WorkerTransport's calls beside streams: embeddings, files, the worker's own tokenizer, probes."""

import hashlib
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import (
    ApplianceError,
    InvalidRequest,
    NotFound,
    NotImplementedHere,
    WorkerLost,
    WorkerTimeout,
)
from appliance.core.identity import Digest
from appliance.core.requests import FileRef
from appliance.transport.limits import LinkLimits
from tests.fakes.token_engine import SpellingEngine, TokenEngine, make_card
from tests.helpers.faulty_stream import FaultyStream
from tests.helpers.link_rig import SHORT_LIMITS, WORKER, LinkRig, Medium, make_request, open_link_rig


async def test_embedding(rig: LinkRig) -> None:
    assert await rig.links.embed(WORKER, make_request(task="embed")) == [0.5, -1.0, 2.0]
    rig.engine.fail_at, rig.engine.fault = 0, InvalidRequest("cannot embed with this model")
    with pytest.raises(InvalidRequest, match="cannot embed"):
        await rig.links.embed(WORKER, make_request(task="embed"))


async def test_cancelled_embedding_stops_the_engine(rig: LinkRig) -> None:
    rig.engine.hang_at = 0
    with trio.move_on_after(0.02):
        await rig.links.embed(WORKER, make_request(task="embed"))
    await rig.settle()
    assert rig.engine.cancelled == 1


async def test_embedding_of_a_lost_worker(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, TokenEngine(hang_at=0)) as rig:
        stream = await rig.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_soon, stream)
            with pytest.raises(WorkerLost):
                await rig.links.embed(WORKER, make_request(task="embed"))


async def kill_soon(stream: FaultyStream) -> None:
    await trio.sleep(0.01)
    stream.kill()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 300_000])
async def test_file_is_read_whole(medium: Medium, tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    ref = FileRef(Digest(hashlib.sha256(content).hexdigest()), size)
    engine = TokenEngine(content={ref.digest: content})
    async with open_link_rig(medium, tmp_path, engine, card=make_card({"f": ref})) as rig:
        await rig.connect()
        assert await rig.links.read_file(WORKER, ref.digest) == content
        await rig.settle()


async def test_wrong_files(medium: Medium, tmp_path: Path) -> None:
    forged = FileRef(Digest("0" * 64), 100)
    long = FileRef(Digest(hashlib.sha256(b"long").hexdigest()), 3)
    gone = FileRef(Digest("1" * 64), 100)
    engine = TokenEngine(content={forged.digest: b"other bytes", long.digest: b"long"})
    card = make_card({"forged": forged, "long": long, "gone": gone})
    async with open_link_rig(medium, tmp_path, engine, card=card) as rig:
        await rig.connect()
        with pytest.raises(ApplianceError, match="another digest"):
            await rig.links.read_file(WORKER, forged.digest)
        with pytest.raises(ApplianceError, match="more than the 3 bytes"):
            await rig.links.read_file(WORKER, long.digest)
        with pytest.raises(NotFound, match="does not have it"):
            await rig.links.read_file(WORKER, gone.digest)
        with pytest.raises(NotFound, match="not on the card"):
            await rig.links.read_file(WORKER, Digest("2" * 64))


async def test_tokenizer_of_the_worker(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, SpellingEngine(), limits=SHORT_LIMITS) as rig:
        await rig.connect()
        assert await rig.links.tokenize(WORKER, "hé", special=False) == [104, 195, 169]
        assert await rig.links.detokenize(WORKER, [104, 195, 169]) == "hé".encode()
        with pytest.raises(WorkerTimeout):
            await rig.links.tokenize(WORKER, "hang", special=False)


async def test_calls_that_ended_free_their_place(medium: Medium, tmp_path: Path) -> None:
    async with open_link_rig(medium, tmp_path, SpellingEngine(), limits=LinkLimits(max_streams=2)) as rig:
        await rig.connect()
        for _ in range(5):
            assert await rig.links.tokenize(WORKER, "a", special=True) == [97]


async def test_worker_without_a_tokenizer_says_so(rig: LinkRig) -> None:
    with pytest.raises(NotImplementedHere):
        await rig.links.tokenize(WORKER, "x", special=False)


async def test_probe_of_a_deaf_worker_times_out(medium: Medium, tmp_path: Path) -> None:
    limits = LinkLimits(call_s=0.05)
    async with open_link_rig(medium, tmp_path, limits=limits) as rig:
        stream = await rig.connect()
        assert 0 <= await rig.links.probe(WORKER) < 0.05
        stream.change(drop_sends=True)
        with pytest.raises(WorkerTimeout):
            await rig.links.probe(WORKER)

"""KV caches that one embedded engine computes and another one goes on with, on the demo model."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from appliance.core.errors import UsageError
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.model_facts import EngineOptions
from appliance.core.requests import KvTransfer
from appliance.engines.cards import BLOCK_TOKENS
from appliance.engines.llamacpp import LlamaCppEngine
from appliance.routing.block_hash import local_hashes
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.prefix_index import new_index
from tests.helpers.engines import GREEDY, CollectingSink, answer, demo_facts, make_request, running

PROMPT = Random(1).choices(range(4, 2000), k=400)
PREFILL = KvTransfer(phase="prefill")


def engine(mode: str, folder: Path | None, **args: str) -> LlamaCppEngine:
    given = {"slots": "2", "disaggregation_mode": mode, **args}
    return LlamaCppEngine(demo_facts(), EngineOptions(served_name="demo", transfer_dir=folder, args=given))


@asynccontextmanager
async def halves(folder: Path, **decode: str) -> AsyncGenerator[tuple[LlamaCppEngine, LlamaCppEngine], None]:
    one, other = engine("prefill", folder), engine("decode", folder, **decode)
    with trio.fail_after(60):
        async with running(one) as card, running(other) as other_card:
            assert (card.role, other_card.role) == ("prefill", "decode")
            yield one, other
    assert is_gone(folder), "nothing is left when the workers have stopped"


def is_gone(folder: Path) -> bool:
    return not folder.exists()


async def prefill(one: LlamaCppEngine, prompt: list[int] = PROMPT) -> dict[str, Any]:
    sink = await answer(one, make_request(prompt, max_tokens=1, ignore_eos=True, kv_transfer=PREFILL))
    assert len(sink.token_ids) == 1
    assert sink.finish == "length"
    assert sink.handover is not None
    return sink.handover


async def decode(
    other: LlamaCppEngine, handover: dict[str, Any] | None, prompt: list[int] = PROMPT, **more: Any
) -> CollectingSink:
    half = None if handover is None else KvTransfer(phase="decode", params=handover)
    fields = {"max_tokens": 12, "ignore_eos": True, "sampling": GREEDY, "kv_transfer": half, **more}
    return await answer(other, make_request(prompt, **fields))


def cached(sink: CollectingSink) -> int:
    assert sink.usage is not None
    return sink.usage.cached_tokens


async def test_decode_goes_on_from_the_cache_with_the_same_tokens(tmp_path: Path) -> None:
    async with halves(tmp_path / "kv") as (one, other):
        wanted = await decode(one, None)
        handover = await prefill(one)
        assert len(list((tmp_path / "kv").iterdir())) == 1
        assert (tmp_path / "kv").stat().st_mode & 0o777 == 0o700
        got = await decode(other, handover)
        assert got.token_ids == wanted.token_ids
        assert cached(got) == len(PROMPT) - 1, "only the last token is computed again"
        assert list((tmp_path / "kv").iterdir()) == []


@pytest.mark.parametrize("trouble", ["gone", "cut", "other model", "other prompt", "foreign name", "no offer"])
async def test_cache_that_cannot_be_used_is_computed(trouble: str, tmp_path: Path) -> None:
    async with halves(tmp_path / "kv") as (one, other):
        wanted = await decode(one, None)
        handover = await prefill(one)
        offer = handover["llamacpp"]
        file = tmp_path / "kv" / offer["file"]
        if trouble == "gone":
            file.unlink()
        elif trouble == "cut":
            file.write_bytes(file.read_bytes()[:1000])
        elif trouble == "other model":
            offer["model"] = "0" * 64
        elif trouble == "other prompt":
            offer["tokens"] = len(PROMPT) + 1
        elif trouble == "foreign name":
            (tmp_path / "precious").write_text("x")
            offer["file"] = "../precious"
        else:
            handover = {"mocker": {"request": "r"}}
        got = await decode(other, handover)
        assert got.token_ids == wanted.token_ids
        assert cached(got) == 0
        if trouble == "foreign name":
            assert (tmp_path / "precious").exists()


async def test_caches_of_another_type_do_not_fit(tmp_path: Path) -> None:
    async with halves(tmp_path / "kv", kv_cache_type="f32") as (one, other):
        assert cached(await decode(other, await prefill(one))) == 0


async def test_prefix_that_decode_has_itself_is_not_fetched(tmp_path: Path) -> None:
    async with halves(tmp_path / "kv") as (one, other):
        await decode(other, None)
        handover = await prefill(one)
        file = tmp_path / "kv" / handover["llamacpp"]["file"]
        file.write_bytes(b"not read")
        assert cached(await decode(other, handover)) == len(PROMPT) - 1
        assert not file.exists()


async def test_full_disk_leaves_all_to_decode(tmp_path: Path) -> None:
    async with halves(tmp_path / "kv") as (one, _):
        (tmp_path / "kv").rmdir()
        sink = await answer(one, make_request(PROMPT, max_tokens=1, kv_transfer=PREFILL))
        assert (sink.finish, sink.handover) == ("length", None)
        (tmp_path / "kv").mkdir()


async def test_cancelled_prefill_leaves_no_file(tmp_path: Path) -> None:
    async with halves(tmp_path / "kv") as (one, other):
        for delay_s in (0.0, 0.02, 0.05, 0.1):
            with trio.move_on_after(delay_s) as scope:
                await prefill(one, Random(delay_s).choices(range(4, 2000), k=2000))
            if scope.cancelled_caught:
                assert list((tmp_path / "kv").iterdir()) == []
            for file in (tmp_path / "kv").iterdir():
                file.unlink()
        assert cached(await decode(other, await prefill(one))) == len(PROMPT) - 1, "the slots are as good as before"


async def test_cache_events_stay_exact_over_handovers(tmp_path: Path) -> None:
    index, holder, random = new_index(), Holder(WorkerId("w")), Random(7)

    def take(rank: int, events: list[KvEvent]) -> None:
        assert {index.apply(holder, event) for event in events} == {Outcome.APPLIED}

    async with halves(tmp_path / "kv") as (one, other):
        other.publish_kv_events(take)
        for step in range(20):
            prompt = PROMPT[: random.randrange(17, 200)] + random.choices(range(4, 2000), k=random.randrange(60))
            found = index.find_matches(local_hashes(prompt, BLOCK_TOKENS)).device.get(holder, 0)
            foretold = min(found, (len(prompt) - 1) // BLOCK_TOKENS)
            handover = await prefill(one, prompt) if step % 3 else None
            if step % 3 == 2 and handover is not None:
                (tmp_path / "kv" / handover["llamacpp"]["file"]).write_bytes(b"broken")
            blocks = cached(await decode(other, handover, prompt, max_tokens=4)) // BLOCK_TOKENS
            if step % 3 == 0:
                assert blocks == foretold
            elif step % 3 == 1:
                assert blocks == (len(prompt) - 1) // BLOCK_TOKENS


def test_half_without_a_shared_folder_is_refused() -> None:
    with pytest.raises(UsageError, match="shared"):
        engine("prefill", None)


def test_embedding_model_cannot_be_split(tmp_path: Path) -> None:
    options = EngineOptions(
        served_name="demo", task="embed", transfer_dir=tmp_path, args={"disaggregation_mode": "decode"}
    )
    with pytest.raises(UsageError, match="cannot be split"):
        LlamaCppEngine(demo_facts(), options)

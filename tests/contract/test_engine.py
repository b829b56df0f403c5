"""What every engine promises, whatever it runs."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from appliance.core.errors import EngineFailed, InvalidRequest, ModelFileBad, NotFound
from appliance.core.identity import Digest
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import Engine, FileSource
from appliance.core.requests import EngineRequest, ModelCard, Sampling
from appliance.engines.llamacpp import LlamaCppEngine
from appliance.engines.mocker import MockerEngine
from appliance.engines.sglang import SglangEngine
from appliance.engines.vllm import VllmEngine
from tests.fakes.scripted_engine import ScriptedEngine
from tests.helpers.cancel_points import cancel_at_every_await
from tests.helpers.engines import CollectingSink, answer, demo_facts, make_request, running
from tests.helpers.foreign_engines import stand_in

SLOTS = 4
SCRIPT = [[100, 101], [102], [103, 104, 105], [106]]


def make_llamacpp() -> Engine:
    args = {"slots": str(SLOTS)}
    return LlamaCppEngine(demo_facts(), EngineOptions(served_name="demo", context_length=512, args=args))


def make_mocker() -> Engine:
    args = {"step_ms": "0", "max_num_seqs": str(SLOTS)}
    return MockerEngine(demo_facts(), EngineOptions(served_name="demo", context_length=512, args=args))


def make_scripted() -> Engine:
    return ScriptedEngine(SCRIPT, slots=SLOTS)


def make_vllm() -> Engine:
    engine: Engine = stand_in(VllmEngine, args={"max_num_seqs": str(SLOTS)})
    return engine


def make_old_vllm() -> Engine:
    engine: Engine = stand_in(VllmEngine, args={"max_num_seqs": str(SLOTS), "fake_old": "true"})
    return engine


def make_sglang() -> Engine:
    engine: Engine = stand_in(SglangEngine, args={"max_num_seqs": str(SLOTS)})
    return engine


MAKERS: dict[str, Callable[[], Engine]] = {
    "llamacpp": make_llamacpp,
    "mocker": make_mocker,
    "scripted": make_scripted,
    "vllm": make_vllm,
    "old vllm": make_old_vllm,
    "sglang": make_sglang,
}


@pytest.fixture(params=MAKERS)
def make_engine(request: pytest.FixtureRequest) -> Callable[[], Engine]:
    return MAKERS[request.param]


@pytest.fixture
async def engine(make_engine: Callable[[], Engine]) -> AsyncGenerator[Engine, None]:
    made = make_engine()
    async with running(made):
        yield made


@pytest.fixture(autouse=True)
async def deadline() -> AsyncGenerator[None, None]:
    """No promise takes long to keep."""
    with trio.fail_after(30):
        yield


async def test_the_card_tells_what_was_started(make_engine: Callable[[], Engine]) -> None:
    reports: list[tuple[float, str]] = []
    engine = make_engine()
    card = await engine.start(lambda fraction, text: reports.append((fraction, text)))
    await engine.close()
    assert isinstance(card, ModelCard)
    assert (card.context_length, card.max_num_seqs, card.task, card.io) == (512, SLOTS, "generate", "tokens")
    assert reports[-1][0] == 1.0


async def test_a_stream_ends_with_one_finish_and_true_counts(engine: Engine) -> None:
    request = make_request(max_tokens=5, ignore_eos=True)
    sink = await answer(engine, request)
    assert sink.finish == "length"
    assert len(sink.token_ids) == 5
    assert sink.usage is not None
    assert (sink.usage.prompt_tokens, sink.usage.completion_tokens) == (len(request.token_ids), 5)


async def test_many_streams_share_few_slots(engine: Engine) -> None:
    sinks = [CollectingSink() for _ in range(4 * SLOTS)]
    async with trio.open_nursery() as nursery:
        for index, sink in enumerate(sinks):
            request = make_request([100 + index, 7, 8], max_tokens=12, ignore_eos=True)
            nursery.start_soon(engine.generate, request, sink)
    assert [len(sink.token_ids) for sink in sinks] == [12] * len(sinks)
    assert {sink.finish for sink in sinks} == {"length"}


async def test_the_same_seed_gives_the_same_tokens(engine: Engine) -> None:
    def request(seed: int) -> EngineRequest:
        return make_request(
            [100, 200, 300], max_tokens=24, ignore_eos=True, sampling=Sampling(seed=seed, temperature=1.5)
        )

    await answer(engine, request(3))  # from now on the prompt is in the cache, for all runs alike
    first, again, other = [(await answer(engine, request(seed))).token_ids for seed in (3, 3, 1)]
    assert first == again
    assert first != other


async def test_a_stop_id_ends_the_stream_unseen(engine: Engine) -> None:
    free = await answer(engine, make_request(max_tokens=6, ignore_eos=True, sampling=Sampling(seed=0, temperature=0)))
    ending = free.token_ids[4]
    shown = free.token_ids[: free.token_ids.index(ending)]
    sink = await answer(
        engine,
        make_request(max_tokens=6, ignore_eos=True, stop_token_ids=(ending,), sampling=Sampling(seed=0, temperature=0)),
    )
    assert (sink.token_ids, sink.finish) == (shown, "stop")
    assert sink.usage is not None
    assert sink.usage.completion_tokens == len(shown)


async def test_no_stop_id_is_honoured_before_the_minimum(engine: Engine) -> None:
    sampling = Sampling(seed=0, temperature=0)
    free = await answer(engine, make_request(max_tokens=3, ignore_eos=True, sampling=sampling))
    sink = await answer(
        engine,
        make_request(max_tokens=9, min_tokens=7, stop_token_ids=(free.token_ids[1],), sampling=sampling),
    )
    assert 7 <= len(sink.token_ids) <= 9
    assert free.token_ids[1] not in sink.token_ids[:7]
    assert sink.usage is not None
    assert sink.usage.completion_tokens == len(sink.token_ids)


async def test_a_single_token_is_a_whole_stream(engine: Engine) -> None:
    sink = await answer(engine, make_request(max_tokens=1, ignore_eos=True))
    assert (len(sink.token_ids), sink.finish) == (1, "length")


async def test_log_probabilities_come_one_for_each_token(engine: Engine) -> None:
    sink = await answer(engine, make_request(max_tokens=5, ignore_eos=True, logprobs=0))
    assert len(sink.logprobs) == 5
    assert all(entry.logprob <= 0 for entry in sink.logprobs)


@pytest.mark.parametrize("prompt", [[], [7] * 512, [7] * 5000])
async def test_a_prompt_that_cannot_fit_is_refused(engine: Engine, prompt: list[int]) -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        await answer(engine, make_request(prompt))


@pytest.mark.parametrize(
    "make_engine", sorted(MAKERS.keys() - {"scripted"}), indirect=True
)  # the fake has no context to run out of
async def test_output_stops_at_the_end_of_the_context(engine: Engine) -> None:
    sink = await answer(engine, make_request([7] * 500, max_tokens=1000, ignore_eos=True))
    assert (len(sink.token_ids), sink.finish) == (12, "length")


async def test_cancelling_anywhere_frees_the_slot(make_engine: Callable[[], Engine]) -> None:
    engine = make_engine()
    async with running(engine):
        # The mocker looks for room every 64 tokens only; without that there is just one await to cancel.
        request = make_request(max_tokens=150 if isinstance(engine, MockerEngine) else 6, ignore_eos=True)

        async def next_streams_run() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(SLOTS):
                    nursery.start_soon(answer, engine, request)

        async def one_stream() -> None:
            await answer(engine, request)

        steps = await cancel_at_every_await(one_stream, next_streams_run)
    assert steps > 1


async def test_cancelling_a_waiting_stream_lets_the_next_one_in(engine: Engine) -> None:
    long = make_request(max_tokens=400, ignore_eos=True)
    async with trio.open_nursery() as nursery:
        for _ in range(SLOTS):
            nursery.start_soon(answer, engine, long)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.005):
            await answer(engine, make_request(max_tokens=400, ignore_eos=True))
        await answer(engine, make_request(max_tokens=2))
        nursery.cancel_scope.cancel()
    assert (await answer(engine, make_request(max_tokens=2))).finish is not None


async def test_a_draining_engine_ends_what_runs_and_takes_nothing_new(engine: Engine) -> None:
    sink = CollectingSink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.generate, make_request(max_tokens=100, ignore_eos=True), sink)
        await sink.first.wait()
        await engine.drain()
        assert sink.finish == "length"
    with pytest.raises(EngineFailed):
        await answer(engine, make_request())


async def test_closing_fails_the_streams_that_run(engine: Engine) -> None:
    failures: list[EngineFailed] = []

    async def expect_failure(sink: CollectingSink) -> None:
        try:
            await engine.generate(make_request(max_tokens=480, ignore_eos=True), sink)
        except EngineFailed as error:
            failures.append(error)

    sinks = [CollectingSink() for _ in range(SLOTS + 2)]
    async with trio.open_nursery() as nursery:
        for sink in sinks:
            nursery.start_soon(expect_failure, sink)
        await sinks[0].first.wait()
        await engine.close()
    assert failures
    assert len(failures) == sum(sink.finish is None for sink in sinks)
    with pytest.raises(EngineFailed):
        await answer(engine, make_request())


async def test_closing_is_safe_in_any_state_and_twice(make_engine: Callable[[], Engine]) -> None:
    engine = make_engine()
    with pytest.raises(EngineFailed):
        await answer(engine, make_request())
    await engine.close()
    await engine.start(lambda fraction, text: None)
    await engine.close()
    await engine.close()
    await engine.drain()


async def test_a_generating_engine_makes_no_embeddings(engine: Engine) -> None:
    with pytest.raises(InvalidRequest):
        await engine.embed(make_request(task="embed"))


async def test_a_slow_consumer_loses_nothing(engine: Engine) -> None:
    class SlowSink(CollectingSink):
        async def room(self) -> None:
            await trio.sleep(0.002)

    sink = SlowSink()
    await engine.generate(make_request(max_tokens=150, ignore_eos=True), sink)
    assert len(sink.token_ids) == 150


@pytest.mark.parametrize("name", ["llamacpp", "mocker", "vllm", "sglang"])
async def test_files_of_the_card_can_be_read(name: str) -> None:
    engine = MAKERS[name]()
    async with running(engine) as card:
        assert isinstance(engine, FileSource)
        assert engine.read_file(card.files["tokenizer.json"].digest) == demo_facts().files["tokenizer.json"]
        with pytest.raises(NotFound):
            engine.read_file(Digest("0" * 64))


@pytest.mark.parametrize("maker", [LlamaCppEngine, MockerEngine])
async def test_embeddings_are_unit_vectors_that_depend_on_the_text(maker: Any) -> None:
    engine: Engine = maker(demo_facts(), EngineOptions(served_name="demo", task="embed", context_length=512))
    async with running(engine) as card:
        assert (card.task, card.embedding_size) == ("embed", demo_facts().embedding_size)
        one, again, other = [
            await engine.embed(make_request(text, task="embed")) for text in ("a cat", "a cat", "import os")
        ]
        assert one == again != other
        assert len(one) == card.embedding_size
        assert sum(value * value for value in one) == pytest.approx(1.0)
        with pytest.raises(InvalidRequest):
            await engine.embed(make_request([], task="embed"))
        with pytest.raises(InvalidRequest):
            await answer(engine, make_request())


async def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "broken.gguf"
    bad.write_bytes(b"GGUF" + bytes(200))
    for path in (bad, tmp_path / "missing.gguf"):
        engine = LlamaCppEngine(replace(demo_facts(), path=path), EngineOptions(served_name="demo"))
        with pytest.raises(ModelFileBad) as caught:
            await engine.start(lambda fraction, text: None)
        assert str(tmp_path) not in str(caught.value)
        assert "\n" not in str(caught.value)
        await engine.close()

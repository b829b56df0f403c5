"""The mocker: its script, its words, its pace."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from appliance.core.errors import EngineFailed, InvalidRequest, UsageError
from appliance.core.model_facts import EngineOptions
from appliance.core.requests import Guided, Sampling
from appliance.engines.mocker import MockerEngine
from tests.helpers.engines import (
    CollectingSink,
    answer,
    demo_facts,
    make_request,
    running,
    tokens_of,
)


def make(**args: str) -> MockerEngine:
    return MockerEngine(demo_facts(), EngineOptions(served_name="any name", args={"step_ms": "0", **args}))


async def test_a_script_is_the_whole_answer() -> None:
    engine = make(text="Hello, world 😀!")
    async with running(engine) as card:
        assert card.name == "any name"
        sink = await answer(engine, make_request(max_tokens=500))
        assert (sink.text, sink.finish) == ("Hello, world 😀!", "stop")
        cut = await answer(engine, make_request(max_tokens=3))
        assert (cut.token_ids, cut.finish) == (sink.token_ids[:3], "length")


async def test_a_script_starts_over_while_no_end_is_wanted() -> None:
    engine = make(text="One two three.")
    length = len(tokens_of("One two three."))
    async with running(engine):
        sink = await answer(engine, make_request(max_tokens=3 * length, ignore_eos=True))
        assert (sink.text, sink.finish) == ("One two three." * 3, "length")
        least = await answer(engine, make_request(max_tokens=99, min_tokens=length + 2))
        assert (len(least.token_ids), least.finish) == (length + 2, "stop")


async def test_words_by_chance_are_words() -> None:
    engine = make()
    async with running(engine):
        sink = await answer(engine, make_request(max_tokens=200))
    assert all(word.isalpha() for word in sink.text.split())
    assert not set(sink.token_ids) & set(demo_facts().eos_token_ids)


async def test_a_seed_chooses_the_words() -> None:
    first, second = make(seed="5"), make(seed="5")
    outputs = []
    for engine in (first, second):
        async with running(engine):
            outputs.append([(await answer(engine, make_request())).token_ids for _ in range(2)])
    assert outputs[0] == outputs[1]
    assert outputs[0][0] != outputs[0][1]


async def test_steps_take_their_time(autojump_clock: MockClock) -> None:
    engine = make(step_ms="20", prefill_ms_per_token="1")
    sinks = [CollectingSink(), CollectingSink()]
    async with running(engine):
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.generate, make_request([7] * 3000, max_tokens=2), sinks[0])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(engine.generate, make_request([7] * 100, max_tokens=10), sinks[1])
            await sinks[1].first.wait()
            assert trio.current_time() - start == pytest.approx(0.1)
            await sinks[0].first.wait()
            assert trio.current_time() - start == pytest.approx(3.0)
        assert trio.current_time() - start == pytest.approx(3.02)


async def test_it_fails_where_it_was_told_to() -> None:
    engine = make(fail_after="3")
    sink = CollectingSink()
    async with running(engine):
        with pytest.raises(EngineFailed):
            await engine.generate(make_request(max_tokens=9), sink)
    assert (len(sink.token_ids), sink.finish) == (3, None)


async def test_loading_takes_its_time(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    await make(startup_ms="4000").start(lambda fraction, text: None)
    assert trio.current_time() - start >= 4


async def test_without_its_step_loop_it_refuses() -> None:
    engine = make()
    await engine.start(lambda fraction, text: None)
    with pytest.raises(EngineFailed, match="step loop"):
        await answer(engine, make_request())


async def test_a_step_loop_that_is_cancelled_fails_its_streams() -> None:
    engine = make(step_ms="1000")
    await engine.start(lambda fraction, text: None)
    sinks = [CollectingSink() for _ in range(3)]

    async def expect_failure(sink: CollectingSink) -> None:
        with pytest.raises(EngineFailed):
            await engine.generate(make_request(max_tokens=100), sink)

    async with trio.open_nursery() as streams, trio.open_nursery() as loop:
        await loop.start(engine.run)
        for sink in sinks:
            streams.start_soon(expect_failure, sink)
        await sinks[-1].first.wait()
        loop.cancel_scope.cancel()


async def test_a_stream_without_room_holds_up_no_other() -> None:
    class FullSink(CollectingSink):
        async def room(self) -> None:
            await trio.sleep_forever()

    engine, full = make(max_num_seqs="2"), FullSink()
    async with running(engine), trio.open_nursery() as nursery:
        nursery.start_soon(engine.generate, make_request(max_tokens=1000), full)
        with trio.fail_after(5):
            assert len((await answer(engine, make_request(max_tokens=500))).token_ids) == 500
        assert len(full.token_ids) == 64
        nursery.cancel_scope.cancel()


async def test_constraints_are_refused() -> None:
    engine = make()
    async with running(engine):
        with pytest.raises(InvalidRequest):
            await answer(engine, make_request(guided=Guided(regex="a")))


@pytest.mark.parametrize("args", [{"step_ms": "-1"}, {"step_ms": "nan"}, {"steps": "1"}, {"max_num_seqs": "x"}])
def test_bad_arguments_are_refused(args: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(args))):
        MockerEngine(demo_facts(), EngineOptions(served_name="m", args=args))


async def test_a_model_without_a_tokenizer_still_gives_tokens() -> None:
    bare = replace(demo_facts(), files={}, refs={})
    engine = MockerEngine(bare, EngineOptions(served_name="m", args={"step_ms": "0"}))
    async with running(engine):
        sink = await answer(engine, make_request(max_tokens=50, sampling=Sampling(seed=1)))
    assert not set(sink.token_ids) & set(bare.eos_token_ids)
    scripted = MockerEngine(bare, EngineOptions(served_name="m", args={"text": "x"}))
    with pytest.raises(UsageError, match="tokenizer"):
        await scripted.start(lambda fraction, text: None)

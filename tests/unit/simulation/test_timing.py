"""Times of passes: the measured figures of Dynamo 1.2.1's mocker, to the digits that were printed."""

from statistics import mean

import pytest

from appliance.core.errors import UsageError
from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.engines import make_scheduler
from appliance.simulation.timing import FixedTiming, ModelledTiming, PolynomialTiming, kv_transfer_ms
from appliance.simulation.virtual_run import run_virtually
from tests.helpers.simulation import prompt_of, simulated, traces_of

TIMING = ModelledTiming(model=PolynomialTiming())


@pytest.mark.parametrize(
    ("prompt_tokens", "ttft_ms"),
    [
        (64, 23.218181),
        (100, 23.770567),
        (1000, 37.898579),
        (4096, 91.706564),
        (8192, 175.297300),
        (10000, 220.721374),
    ],
)
def test_time_to_the_first_token(prompt_tokens: int, ttft_ms: float) -> None:
    assert traces_of([(0, prompt_tokens, 1)])[0].ttft_ms == pytest.approx(ttft_ms, abs=1e-6)


@pytest.mark.parametrize(
    ("pace", "settings", "ttft_ms", "itl_ms"),
    [
        ({}, {}, 37.898579, 5.792720),
        ({"speedup_ratio": 10}, {}, 3.7899, 0.5793),
        ({"decode_speedup_ratio": 2}, {}, 35.0022, 2.8964),
        ({}, {"block_size": 16}, 38.0532, 5.9477),
    ],
)
def test_a_prompt_of_1000(pace: dict[str, float], settings: dict[str, int], ttft_ms: float, itl_ms: float) -> None:
    exact = not pace and not settings
    trace = traces_of([(0, 1000, 2 if exact else 10)], pace=pace, **settings)[0]
    digits = 1e-6 if exact else 5.1e-5
    assert (trace.ttft_ms, mean(trace.gaps_ms)) == pytest.approx((ttft_ms, itl_ms), abs=digits)


@pytest.mark.parametrize(("sizes", "ttft_ms"), [((100, 300), 28.4052), ((10000, 100), 222.4027)])
def test_prompts_of_one_pass_are_computed_together(sizes: tuple[int, int], ttft_ms: float) -> None:
    traces = traces_of([(0, isl, 1) for isl in sizes])
    assert [trace.ttft_ms for trace in traces] == pytest.approx([ttft_ms, ttft_ms], abs=5.1e-5)


def test_sglang_counts_single_tokens() -> None:
    trace = traces_of([(0, 1000, 10)], engine_type="sglang", block_size=1)[0]
    assert (trace.ttft_ms, mean(trace.gaps_ms)) == pytest.approx((41.0465, 8.9561), abs=5.1e-5)


@pytest.mark.parametrize(("cached", "total", "ttft_ms"), [(1024, 1024, 5.7927), (960, 1000, 22.9022)])
def test_cached_tokens_take_no_time(cached: int, total: int, ttft_ms: float) -> None:
    prompt = prompt_of(1, total)
    arrivals = [(0.0, simulated(prompt[:cached], 1, name=1)), (1000.0, simulated(prompt, 1, name=2))]
    traces, _ = run_virtually(make_scheduler(EngineSettings(), TIMING), arrivals)
    assert traces[1].reused_tokens == cached
    assert traces[1].ttft_ms == pytest.approx(ttft_ms, abs=5.1e-5)


def test_a_long_prompt_holds_up_the_output_of_others() -> None:
    # The measured 91.7131 depends on when the prompt came; the pass that it shares is prefill(4096) and a decode.
    trace = traces_of([(0, 64, 50), (100, 4096, 1)])[0]
    assert max(trace.gaps_ms) == pytest.approx(91.7131, abs=0.01)


def test_handing_a_cache_over_takes_its_time() -> None:
    assert kv_transfer_ms(1000, 131072, 64.0) == pytest.approx(2.048)
    assert kv_transfer_ms(1000, 0, 64.0) == kv_transfer_ms(1000, 131072, 0) == 0


def test_no_time_passes_at_a_speedup_of_zero() -> None:
    traces = traces_of([(0, 10000, 50), (0, 100, 20)], pace={"speedup_ratio": 0})
    assert [trace.token_times_ms[-1] for trace in traces] == [0, 0]


@pytest.mark.parametrize("bad", [{"speedup_ratio": -1}, {"speedup_ratio": float("nan")}, {"decode_speedup_ratio": 0}])
def test_ratios_that_divide_nothing_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        ModelledTiming(model=PolynomialTiming(), **bad)


def test_a_fixed_pace_computes_prompts_beside_the_passes() -> None:
    scheduler = make_scheduler(EngineSettings(), FixedTiming(step_ms=20, prompt_ms_per_token=1))
    arrivals = [(0.0, simulated(prompt_of(1, 3000), 2, name=1)), (0.0, simulated(prompt_of(2, 100), 3, name=2))]
    traces, _ = run_virtually(scheduler, arrivals)
    # The run in virtual time hands tokens out at the end of a pass, 20 ms after the prompt was ready.
    assert [trace.token_times_ms for trace in traces] == [[3020, 3040], [120, 140, 160]]

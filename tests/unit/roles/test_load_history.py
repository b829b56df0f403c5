"""The load of the last minutes as samples."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.roles.node.load_history import KEPT_S, SAMPLE_S, LoadHistory


def load(requests: int = 0, tokens: int = 0, **more: Any) -> dict[str, Any]:
    return {"requests": requests, "failed": 0, "output_tokens": tokens, "active": 1, "waiting": 0, "ttfts_s": []} | more


def test_rates_are_per_second_over_all_front_ends() -> None:
    history = LoadHistory()
    history.add(100.0, 1.0, {"a": load(5), "b": load(7)})
    history.add(102.0, 3.0, {"a": load(9, 10), "b": load(7, 30)})
    first, second = history.since(0)
    assert (first["requests_per_s"], first["active"]) == (0, 2)
    assert (second["requests_per_s"], second["output_tokens_per_s"]) == (2, 20)


def test_a_front_end_that_is_new_or_started_again_makes_no_peak() -> None:
    history = LoadHistory()
    history.add(100.0, 1.0, {"a": load(1000)})
    history.add(102.0, 3.0, {"a": load(0), "b": load(5000)})
    history.add(104.0, 5.0, {})
    assert [one["requests_per_s"] for one in history.since(0)] == [0, 0, 0]


def test_the_median_of_what_ended_lately() -> None:
    history = LoadHistory()
    history.add(100.0, 1.0, {"a": load(ttfts_s=[0.1, 0.9]), "b": load(ttfts_s=[0.2])})
    history.add(102.0, 3.0, {"a": load()})
    assert [one["ttft_p50_s"] for one in history.since(0)] == [0.2, None]


@given(st.lists(st.floats(0.01, 10), max_size=600))
def test_it_stays_bounded_and_in_order(spans: list[float]) -> None:
    history, at = LoadHistory(), 1000.0
    for span in spans:
        at += span
        history.add(at, at, {"a": load(int(at))})
    samples = history.since(0)
    assert len(samples) == min(len(spans), int(KEPT_S / SAMPLE_S))
    times = [one["at"] for one in samples]
    assert times == sorted(times)
    assert all(one["requests_per_s"] >= 0 for one in samples)
    if times:
        assert history.since(times[-1]) == []
        assert len(history.since(times[0])) == len([at for at in times if at > times[0]])

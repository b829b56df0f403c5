"""Costs of the worked examples, weights, ties, temperature."""

from collections import Counter
from random import Random

import pytest

from appliance.core.generation import RouterOverrides
from appliance.core.identity import ModelName, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.cost import Prompt, cached_tokens, choose, prefer, score
from appliance.routing.overlap import NO_OVERLAPS, Overlaps
from appliance.routing.slots import Slot
from appliance.routing.weights import Weights, overridden, resolve, weights_of

CARD = ModelCard(name=ModelName("m"), context_length=10_000, engine="mocker")


def slots(count: int, taints: tuple[str, ...] = ()) -> list[Slot]:
    card = ModelCard(name=ModelName("m"), context_length=10_000, engine="mocker", taints=taints)
    return [Slot(WorkerId(f"w{number}"), 0, card, True) for number in range(count)]


def overlaps(there: list[Slot], device: list[int]) -> Overlaps:
    found = {slot.holder: blocks for slot, blocks in zip(there, device, strict=True)}
    return Overlaps(found, found, found)


def test_the_cheapest_of_the_worked_example() -> None:
    there = slots(3)
    for slot, decode in zip(there, (10, 5, 9), strict=True):
        slot.load.book("other", 0, unshared=decode)
    prompt = Prompt(160, 0, (), overlaps(there, [2, 5, 8]))
    assert score(there, prompt, Weights(), 16, 0.0).costs == [18, 10, 11]
    assert choose([18, 10, 11], 0.0, Random(1)) == 1


@pytest.mark.parametrize("changing", [True, False])
def test_the_parts_of_a_cost(changing: bool) -> None:
    (slot,) = there = slots(1)
    slot.load.book("other", 40, hashes=[1, 2])
    found = score(there, Prompt(72, 4, [1, 2, 3, 4]), Weights(), 16, 0.0, changing=changing)
    assert (found.prefill_tokens, found.decode_blocks) == ([40], [4])
    assert found.costs == [(40 + 72) / 16 + 4]  # not rounded


def test_a_credit_above_the_prefill_is_no_gain() -> None:
    there = slots(1)
    assert score(there, Prompt(16, 0, (), overlaps(there, [5])), Weights(), 16, 0.0).costs == [0]


def test_tiers_are_credited_by_what_they_add() -> None:
    (slot,) = there = slots(1)
    tiers = Overlaps({slot.holder: 1}, {slot.holder: 3}, {slot.holder: 7})
    prompt = Prompt(1600, 0, (), tiers)
    assert score(there, prompt, Weights(), 16, 0.0).costs == [100 - (1 + 0.75 * 2 + 0.25 * 4)]
    assert cached_tokens(slot.holder, prompt, Weights(), 16) == int((1 + 1.5 + 1) * 16)
    halved = Weights(overlap_credit=0.5, host_credit=1.0, disk_credit=0.0)
    assert score(there, prompt, halved, 16, 0.0).costs == [100 - (0.5 + 2)]


def test_shared_blocks_count_beyond_the_device() -> None:
    there = slots(2)
    prompt = Prompt(160, 0, (), overlaps(there, [4, 1]), shared_blocks=3)
    assert score(there, prompt, Weights(shared_credit=0.5), 16, 0.0).costs == [6, 10 - (1 + 0.5 * 2)]
    alone = Prompt(160, 0, (), NO_OVERLAPS, shared_blocks=3)
    assert score(there, alone, Weights(shared_credit=0.5), 16, 0.0).costs == [8.5, 8.5]
    assert [cached_tokens(slot.holder, prompt, Weights(shared_credit=0.5), 16) for slot in there] == [64, 32]


def test_weights_turn_parts_off() -> None:
    (slot,) = there = slots(1)
    slot.load.book("other", 32, unshared=3)
    prompt = Prompt(64, 4)
    assert score(there, prompt, Weights(track_prefill_tokens=False), 16, 0.0).costs == [7]
    assert score(there, prompt, Weights(track_active_blocks=False), 16, 0.0).costs == [6 + 3]
    assert score(there, prompt, Weights(prefill_scale=2.0), 16, 0.0).costs == [12 + 7]


def test_ties_are_broken_evenly() -> None:
    random = Random(1)
    drawn = Counter(choose([5.0, 2.0, 2.0, 7.0, 2.0], 0.0, random) for _ in range(3000))
    assert set(drawn) == {1, 2, 4}
    assert all(900 < times < 1100 for times in drawn.values())


def test_a_temperature_draws_by_softmax_of_the_scaled_costs() -> None:
    random = Random(1)
    drawn = Counter(choose([4.0, 8.0, 8.0], 1.0, random) for _ in range(10_000))
    assert [drawn[number] / 10_000 for number in range(3)] == pytest.approx([0.576, 0.212, 0.212], abs=0.02)
    even = Counter(choose([3.0, 3.0], 0.5, random) for _ in range(2000))
    assert 900 < even[0] < 1100
    assert {choose([4.0, 8.0], 1e-300, random) for _ in range(50)} == {0}


def test_preferred_taints_change_a_cost_within_bounds() -> None:
    there = slots(1, ("zone=a", "disk")) + slots(1)
    assert prefer([10.0, 10.0], there, {"zone=a": 0.5, "gone": 9.0}) == pytest.approx([6.2995, 10.0], abs=1e-3)
    assert prefer([1.0], there[:1], {"zone=a": 1e9}) == pytest.approx([0.36788], abs=1e-4)
    assert prefer([1.0], there[:1], {"zone=a": -1e9}) == pytest.approx([2.71828], abs=1e-4)


def test_a_request_overrides_the_weights() -> None:
    wish = RouterOverrides(
        overlap_score_credit=0.5, prefill_load_scale=3.0, router_temperature=2.0, assume_kv_reuse=False
    )
    assert overridden(Weights(), wish) == Weights(
        overlap_credit=0.5, prefill_scale=3.0, temperature=2.0, assume_kv_reuse=False
    )
    assert overridden(Weights(host_credit=0.1), RouterOverrides()) == Weights(host_credit=0.1)


def test_the_obsolete_weight_beats_the_newer_ones() -> None:
    wish = RouterOverrides(overlap_score_weight=2.0, prefill_load_scale=3.0, overlap_score_credit=0.5)
    assert overridden(Weights(), wish) == Weights(prefill_scale=2.0, overlap_credit=0.5)
    none = overridden(Weights(), RouterOverrides(overlap_score_weight=0.0))
    assert (none.prefill_scale, none.overlap_credit) == (0.0, 0.0)


def test_roles_have_their_own_weights() -> None:
    settings = RouterSettings(prefill_load_scale=1.0)
    assert weights_of(settings, "aggregated") == Weights(shared_credit=0.5)
    assert not weights_of(settings, "prefill").track_active_blocks
    decode = weights_of(settings, "decode")
    assert (decode.overlap_credit, decode.assume_kv_reuse, decode.track_prefill_tokens) == (0.0, False, False)


def test_load_aware_is_kv_without_prefixes() -> None:
    found = resolve(RouterSettings(load_aware=True, mode="random", track_active_blocks=False))
    assert (found.mode, found.overlap_score_credit, found.kv_events, found.assume_kv_reuse) == ("kv", 0.0, False, False)
    assert found.track_active_blocks
    assert resolve(RouterSettings()) == RouterSettings()

"""Routing over modelled engines: what the modes make of shared prefixes, and that nothing gets lost in virtual time."""

import pytest

from appliance.core.settings import RouterSettings
from appliance.routing.scheduler import Shared
from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.timing import ModelledTiming, PolynomialTiming
from appliance.simulation.virtual_fleet import Arrival, VirtualFleet
from tests.bench.prefix_workload import Sessions, SharedPrefixes, ideal_cached_tokens
from tests.bench.virtual_routing import run, sessions, shared_prefixes

TIMING = ModelledTiming(model=PolynomialTiming())
SMALL = EngineSettings(num_gpu_blocks=4096, block_size=64)


@pytest.fixture(scope="module")
def shared_load() -> list[Arrival]:
    return shared_prefixes(SharedPrefixes(requests=900, groups=36, output_tokens=48, gap_ms=18))


def test_kv_mode_halves_the_ttft_of_round_robin_on_shared_prefixes(shared_load: list[Arrival]) -> None:
    blind = run(8, RouterSettings(mode="round-robin"), shared_load)
    aware = run(8, RouterSettings(mode="kv"), shared_load)
    assert aware.ttft_ms * 2 <= blind.ttft_ms
    assert aware.of_ideal >= 0.95
    assert aware.work <= 1.3
    assert blind.of_ideal < 0.75, "the workload is one that rewards nobody by chance"


def test_kv_mode_keeps_sessions_where_their_prefix_is() -> None:
    load = Sessions(sessions=40, turns=6)
    aware = run(3, RouterSettings(mode="kv"), sessions(load))
    assert aware.requests == load.sessions * load.turns
    assert aware.of_ideal >= 0.95
    assert aware.work <= 1.3


def test_the_same_input_gives_the_same_run(shared_load: list[Arrival]) -> None:
    few = shared_load[:100]
    assert run(4, RouterSettings(mode="kv"), few) == run(4, RouterSettings(mode="kv"), few)


def test_every_request_ends_with_its_tokens_also_through_the_routers_queue() -> None:
    """Prompts that fill more than the queue's threshold of each worker, all at once."""
    router = RouterSettings(mode="kv", queue_threshold=0.5)
    fleet = VirtualFleet(2, Shared(settings=router), SMALL, TIMING)
    arrivals = [Arrival(at_ms=0, prompt=[number % 190 + 10] * 6000, output=[1, 2, 3]) for number in range(40)]
    journeys = fleet.run(arrivals)
    assert len(journeys) == 40
    assert all(one.error is None and one.ended_ms >= one.first_token_ms > 0 for one in journeys)
    assert {one.worker for one in journeys} == {0, 1}
    assert max(one.ttft_ms for one in journeys) > 1000, "they had to wait for one another"


def test_pins_on_nobody_are_errors_of_their_request_only() -> None:
    from appliance.core.generation import RoutingHints

    fleet = VirtualFleet(1, Shared(settings=RouterSettings(mode="kv")), SMALL, TIMING)
    bad = RoutingHints(required_taints=("zone=moon",))
    journeys = fleet.run(
        [Arrival(at_ms=0, prompt=[1] * 100, output=[1], hints=bad), Arrival(at_ms=1, prompt=[1] * 100, output=[1])]
    )
    assert journeys[0].error is not None
    assert journeys[1].error is None


def test_ideal_counts_whole_blocks_of_prompts_and_outputs() -> None:
    first, answer = list(range(8)), [8, 9, 10, 11, 12]
    follow_up = [*first, *answer, 99]
    assert ideal_cached_tokens([(first, answer), (follow_up, [1])], 4) == 12, "the last output token is in no cache"
    assert ideal_cached_tokens([(first, [1]), ([0, *first], [1])], 4) == 0

"""Requests for the modelled engine, and short ways to run them."""

from collections.abc import Sequence
from typing import Any

from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.engines import make_scheduler
from appliance.simulation.sequence import SimulatedRequest
from appliance.simulation.timing import ModelledTiming, PolynomialTiming
from appliance.simulation.virtual_run import RequestTrace, run_virtually


def prompt_of(number: int, length: int) -> list[int]:
    """A prompt that shares nothing with those of other numbers."""
    return [number * 100_000 + place for place in range(length)]


def simulated(prompt: Sequence[int], output_tokens: int, *, name: int = 0, **fields: Any) -> SimulatedRequest:
    """A request whose output is like that of no other name."""

    def output(start: int, stop: int) -> list[int]:
        return [3_000_000_000 + name * 100_000 + place for place in range(start, stop)]

    return SimulatedRequest(id=str(name), prompt=prompt, max_output_tokens=output_tokens, output=output, **fields)


def traces_of(
    sizes: Sequence[tuple[float, int, int]], *, pace: dict[str, float] | None = None, **settings: Any
) -> list[RequestTrace]:
    """Run requests of (arrival, prompt tokens, output tokens) with distinct prompts and the default timing."""
    timing = ModelledTiming(model=PolynomialTiming(), **(pace or {}))
    scheduler = make_scheduler(EngineSettings(**settings), timing)
    arrivals = [
        (at, simulated(prompt_of(number, isl), osl, name=number)) for number, (at, isl, osl) in enumerate(sizes, 1)
    ]
    traces, _ = run_virtually(scheduler, arrivals)
    return traces

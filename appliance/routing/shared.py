"""What all pools of one router use: settings, random source, stopwatch, records, and the way to other routers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

from appliance.core.identity import ModelName
from appliance.core.settings import RouterSettings
from appliance.routing.decisions import Decisions
from appliance.routing.measures import RouterMeasures
from appliance.routing.replica_sync import Report
from appliance.routing.slots import BusyThresholds


def _no_timer() -> float:
    return 0.0


@dataclass(slots=True, kw_only=True)
class Shared:
    """One for each router; its settings, thresholds and report may be replaced."""

    settings: RouterSettings
    """With its preset spelled out (`weights.resolve`)."""
    source: Random = field(default_factory=Random)
    decisions: Decisions = field(default_factory=Decisions)
    measures: RouterMeasures = field(default_factory=RouterMeasures)
    timer: Callable[[], float] = _no_timer
    """Seconds, only to measure what placements cost."""
    router_id: str = ""
    report: Report | None = None
    """Takes placements to other routers."""
    thresholds: dict[ModelName, BusyThresholds] = field(default_factory=dict)
    """Of models that do not take those of the settings."""
    next_key: Callable[[], int] = field(default_factory=lambda: count().__next__)

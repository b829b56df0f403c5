"""Makes the scheduler of a modelled engine."""

from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sglang_scheduler import SglangScheduler
from appliance.simulation.timing import Timing
from appliance.simulation.vllm_scheduler import VllmScheduler


def make_scheduler(settings: EngineSettings, timing: Timing) -> Scheduler:
    """One rank of the kind that the settings name. Raises `UsageError`."""
    kind = SglangScheduler if settings.engine_type == "sglang" else VllmScheduler
    return kind(settings, timing)

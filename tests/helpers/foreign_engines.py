"""Foreign engines over stand-in servers."""

import os
import sys
from pathlib import Path
from typing import Any

from appliance.core.kv_publishers import FollowKvEvents
from appliance.core.model_facts import EngineOptions
from appliance.engines.foreign.engine import ForeignEngine
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.sglang import SglangEngine
from appliance.engines.vllm import VllmEngine
from tests.helpers.engines import demo_facts

ROOT = Path(__file__).parent.parent.parent
STAND_INS = {
    "vllm": f"{sys.executable} -m tests.fakes.engines.fake_vllm serve",
    "sglang": f"{sys.executable} -m tests.fakes.engines.fake_sglang",
}


def around(follow: FollowKvEvents | None = None, engines_dir: Path | None = None) -> Surroundings:
    """Surroundings in which the stand-ins can be imported."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return Surroundings(env=env, follow_kv_events=follow, engines_dir=engines_dir)


def stand_in(
    engine: type[ForeignEngine],
    *,
    follow: FollowKvEvents | None = None,
    options: dict[str, Any] | None = None,
    **args: str,
) -> Any:
    """An engine, not started, whose server will be a stand-in; `args` are engine arguments."""
    given = {"command": STAND_INS[engine.name], **args}
    if "url" in args:
        del given["command"]
    wish = EngineOptions(**{"served_name": "demo", "context_length": 512, "args": given, **(options or {})})
    return engine(demo_facts(), wish, around(follow))


__all__ = ["SglangEngine", "VllmEngine", "around", "stand_in"]

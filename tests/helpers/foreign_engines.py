"""Foreign engines over stand-in servers."""

import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from appliance.core.kv_publishers import FollowKvEvents
from appliance.core.model_facts import EngineOptions
from appliance.engines.foreign.engine import ForeignEngine
from appliance.engines.foreign.surroundings import Surroundings
from tests.helpers.engines import demo_facts, running

ROOT = Path(__file__).parent.parent.parent
STAND_INS = {
    "vllm": f"{sys.executable} -m tests.fakes.engines.fake_vllm serve",
    "sglang": f"{sys.executable} -m tests.fakes.engines.fake_sglang",
    "trtllm": f"{sys.executable} -m tests.fakes.engines.fake_trtllm",
}


def around(follow: FollowKvEvents | None = None, engines_dir: Path | None = None) -> Surroundings:
    """Surroundings in which the stand-ins can be imported."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return Surroundings(env=env, follow_kv_events=follow, engines_dir=engines_dir)


def stand_in(
    engine: type[ForeignEngine],
    *,
    args: Mapping[str, str] | None = None,
    follow: FollowKvEvents | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """An engine, not started, whose server will be a stand-in; `args` are engine arguments."""
    given = {"command": STAND_INS[engine.name], **(args or {})}
    if "url" in given:
        del given["command"]
    wish = EngineOptions(**{"served_name": "demo", "context_length": 512, "args": given, **(options or {})})
    return engine(demo_facts(), wish, around(follow))


@asynccontextmanager
async def serving(engine: type[ForeignEngine], **args: str) -> AsyncGenerator[Any, None]:
    """An engine that serves while the block runs, with these engine arguments."""
    made = stand_in(engine, args=args)
    async with running(made):
        yield made


async def seen(engine: Any) -> dict[str, Any]:
    """What the stand-in behind an engine was told."""
    found: dict[str, Any] = (await engine._control("GET", "/fake/seen")).json()
    return found


def server_pid(engine: Any) -> int:
    """The process id of the stand-in behind an engine."""
    pid: int | None = engine._backing.pid
    assert pid is not None, "it has no process"
    return pid


def has_ability(engine: object, ability: type) -> bool:
    """Whether an engine has an optional ability."""
    return isinstance(engine, ability)

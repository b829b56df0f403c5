"""Two models whose engines can sleep, on a box with room for one: neither is ended, and requests wake them."""

import json
import os
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import yaml

from appliance.models.demo import demo_model_path
from tests.e2e.appliance_process import Appliance, eventually
from tests.helpers.foreign_engines import STAND_INS
from tests.helpers.graphs import graph, worker

PATIENCE_S = 60.0
STAND_IN = f"command={STAND_INS['vllm']}"
SETTINGS = {
    "APPLIANCE_RESIDENCY_MAX_MODELS": "1",
    "APPLIANCE_RESIDENCY_MIN_RESIDENCE_S": "0.2",
    "APPLIANCE_RESIDENCY_SLEEP_LEVEL": "1",
}


def model(name: str, state: Path, **annotations: str) -> dict[str, Any]:
    """A component whose stand-in can be found by its arguments."""
    words = ["worker", "--engine", "vllm", "--model", str(demo_model_path()), "--served-model-name", name]
    for one in (STAND_IN, "enable_sleep_mode=true", f"fake_mark={state}"):
        words += ["--engine-arg", one]
    component = worker(name, [*words, "--context-length", "512"])
    component["podTemplate"]["metadata"] = {"annotations": annotations}
    return component


def server_of(state: Path, name: str) -> psutil.Process:
    """The stand-in that serves a model."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "tests.fakes.engines.fake_vllm" in words and str(state) in words and name in words:
            return process
    raise AssertionError(f"no server of {name}")


def read(process: psutil.Process, path: str) -> dict[str, Any]:
    """What a stand-in answers."""
    words = process.cmdline()
    port = words[words.index("--port") + 1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def phases(one: Appliance) -> dict[str, str]:
    return {record["name"]: record["phase"] for record in one.status()["models"]}


def actions(one: Appliance, name: str) -> list[str]:
    """What was decided about a model, oldest first."""
    rows = json.loads(one.cli("why", f"model/{name}", "--json", "-n", "50"))
    return [row["action"] for row in rows]


def check_what_is_shown_of_a_sleeper(one: Appliance) -> None:
    """Its state is told beside its phase, which is that of its process."""
    (worker,) = [row for row in one.status()["workers"] if row["component"] == "a"]
    assert (worker["phase"], worker["state"]) == ("ready", "sleeping")
    assert worker["since"] < worker["state_since"] <= time.time()
    assert next(line for line in one.cli("status").splitlines() if worker["id"] in line).split()[1] == "sleeping"
    assert re.search(rf"{worker['id']}\S* +sleeping", one.cli("top", "--once"))
    eventually(lambda: "a=1/1 (1 sleeping)" in one.cli("get", "dgd", "-o", "wide"))
    assert "sleepingReplicas: 1" in one.cli("describe", "dgd", "two")


def answered(one: Appliance, name: str) -> bool:
    return bool(one.chat(name, "hello", max_tokens=3)["usage"]["completion_tokens"] == 3)


def test_models_sleep_instead_of_ending_and_requests_wake_them(binary: str | None, tmp_path: Path) -> None:
    state = tmp_path / "state"
    manifest = tmp_path / "two.yaml"
    parts = [model("a", state), model("b", state, **{"dynamo-appliance/idle-s": "0.5"})]
    manifest.write_text(yaml.safe_dump(graph({"name": "frontend", "type": "frontend"}, *parts, name="two")))
    one = Appliance(binary, state, SETTINGS)
    one.start("-f", str(manifest))
    try:
        assert answered(one, "a")
        first = server_of(state, "a")
        assert answered(one, "b"), "a makes room for it"
        assert read(first, "/is_sleeping") == {"is_sleeping": True}
        assert phases(one)["a"] == "asleep"
        check_what_is_shown_of_a_sleeper(one)

        second = server_of(state, "b")
        eventually(lambda: phases(one)["b"] == "asleep", timeout=PATIENCE_S)
        assert read(second, "/is_sleeping") == {"is_sleeping": True}

        assert answered(one, "a")
        assert answered(one, "a"), "front ends have joined it again"
        assert read(first, "/fake/seen")["calls"] == ["sleep 1", "wake"]
        assert actions(one, "a") == ["load", "sleep", "wake"]
        assert actions(one, "b") == ["load", "sleep"]

        os.kill(second.pid, signal.SIGKILL)
        eventually(lambda: phases(one)["b"] == "cold", timeout=PATIENCE_S)
        assert actions(one, "b") == ["load", "sleep", "unload"], "it is not started to sleep"
    finally:
        one.stop()

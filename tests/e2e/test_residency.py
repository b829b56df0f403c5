"""Three models on a box with memory for two: loaded when asked for, unloaded when idle or in the way, nothing lost."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from appliance.models.demo import demo_model_path
from tests.e2e.appliance_process import Appliance, eventually, refusal
from tests.helpers.graphs import graph, worker

NAMES = ("a", "b", "c")
SETTINGS = {
    "APPLIANCE_RESIDENCY_MIN_RESIDENCE_S": "0.5",
    "APPLIANCE_RESIDENCY_FAIRNESS_WAIT_S": "30",
}


@contextmanager
def three_models(binary: str | None, tmp_path: Path, **settings: str) -> Iterator[Appliance]:
    """An appliance that serves the demo model under three names."""
    model = str(tmp_path / "tiny.gguf")
    Path(model).write_bytes(demo_model_path().read_bytes())
    parts = [worker(name, ["worker", "--model", model, "--served-model-name", name]) for name in NAMES]
    manifest = tmp_path / "three.yaml"
    manifest.write_text(yaml.safe_dump(graph({"name": "frontend", "type": "frontend"}, *parts, name="three")))
    one = Appliance(binary, tmp_path / "state", SETTINGS | settings)
    one.start("-f", str(manifest))
    try:
        yield one
    finally:
        one.stop()


def events(one: Appliance, action: str, model: str | None = None) -> list[dict[str, Any]]:
    """Ledger rows about models, newest first."""
    found = [row for name in NAMES if model in (None, name) for row in rows(one, f"model/{name}")]
    return [row for row in found if row["action"] == action]


def rows(one: Appliance, subject: str) -> list[dict[str, Any]]:
    done = one.run("why", subject, "--json", "-n", "200")
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    return found


def phases(one: Appliance) -> dict[str, str]:
    return {model["name"]: model["phase"] for model in one.status()["models"]}


def ask(one: Appliance, model: str) -> str:
    answer = one.chat(model, "hi", max_tokens=4)
    assert answer["model"] == model
    text: str = answer["choices"][0]["message"]["content"]
    return text


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run all of them at the same time; their results in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


@pytest.mark.slow
def test_three_hundred_interleaved_requests_lose_nothing_and_swap_little(binary: str | None, tmp_path: Path) -> None:
    with three_models(binary, tmp_path, APPLIANCE_RESIDENCY_MAX_MODELS="2") as one:
        assert one.models == list(NAMES)
        assert phases(one) == {"a": "ready", "b": "ready", "c": "cold"}
        rounds, clients, at_a_time = 2, 5, 30
        together = threading.Barrier(clients)

        def client(number: int) -> list[str]:
            answers: list[str] = []
            for _ in range(rounds):
                together.wait(60)
                answers += at_once([partial(ask, one, NAMES[(number + n) % 3]) for n in range(at_a_time)])
            return answers

        answers = [text for found in at_once([partial(client, n) for n in range(clients)]) for text in found]
        assert len(answers) == rounds * clients * at_a_time == 300
        assert len(set(answers)) == 1, "the three names are one model"
        # Each round needs the one model that is not loaded: one swap, and no more.
        assert len(events(one, "unload")) <= rounds
        assert len(events(one, "load")) <= 2 + rounds
        burst_to_a_cold_model(one)
        front_end_restart_loses_nothing(one)
        loading_worker_killed(one)


def cold_one(one: Appliance) -> str:
    return next(name for name, phase in phases(one).items() if phase == "cold")


def burst_to_a_cold_model(one: Appliance) -> None:
    """Fifty requests to one cold model start it once."""
    name = cold_one(one)
    before = len(rows(one, f"model/{name}"))
    starts = sum(1 for view in one.status()["workers"] if view["component"] == name)
    assert starts == 0
    assert len(at_once([lambda: ask(one, name)] * 50)) == 50
    fresh = rows(one, f"model/{name}")[before:]
    assert [row["action"] for row in fresh] == ["load"]
    assert fresh[0]["inputs"]["waiting"] >= 1
    found = [view for view in one.status()["workers"] if view["component"] == name]
    assert [view["restarts"] for view in found] == [0]


def front_end_restart_loses_nothing(one: Appliance) -> None:
    """A request that is held while its front end is replaced gets its answer, and the next one too."""
    name = cold_one(one)

    def restart_once_asked() -> None:
        # A load may be over before anybody sees it: the first of two restarts comes right behind the request.
        for _ in range(2):
            one.cli("restart", "frontend", "--wait")

    answers = at_once([lambda: ask(one, name), restart_once_asked])
    assert answers[0]
    assert ask(one, name) == answers[0]


def loading_worker_killed(one: Appliance) -> None:
    """The request that it was started for is answered by the next one."""
    name = cold_one(one)
    killed = threading.Event()

    def kill() -> None:
        def starting() -> psutil.Process | None:
            return next((p for p in one.workers() if name in p.cmdline()), None)

        process = eventually(starting, every=0.01)
        os.kill(process.pid, signal.SIGKILL)
        killed.set()

    answers = at_once([lambda: ask(one, name), kill])
    assert answers[0]
    assert killed.is_set()
    assert phases(one)[name] == "ready"


def test_a_memory_limit_idle_unloading_and_orders_of_a_user(binary: str | None, tmp_path: Path) -> None:
    limits = {"APPLIANCE_RESIDENCY_MEMORY_LIMIT_GB": "0.4", "APPLIANCE_RESIDENCY_IDLE_S": "2"}
    with three_models(binary, tmp_path, **limits) as one:
        assert [ask(one, name) for name in NAMES]
        assert sum(phase == "ready" for phase in phases(one).values()) <= 2
        assert any("memory" in row["inputs"]["needs"] for row in events(one, "load"))

        eventually(lambda: set(phases(one).values()) == {"cold"}, every=0.2)
        eventually(lambda: not one.workers())
        assert [entry["id"] for entry in json.loads(one.get("/v1/models"))["data"]] == list(NAMES)
        assert one.get("/health")
        assert any("idle" in row["reason"] for row in events(one, "unload"))
        assert ask(one, "b")

        one.cli("models", "unload", "b")
        eventually(lambda: phases(one)["b"] == "cold", every=0.1)
        one.cli("models", "load", "b")
        eventually(lambda: phases(one)["b"] == "ready", every=0.1)
        assert one.run("models", "load", "nobody").returncode == 1


def test_a_request_that_waits_in_vain_hears_why(binary: str | None, tmp_path: Path) -> None:
    limits = {
        "APPLIANCE_RESIDENCY_MAX_MODELS": "1",
        "APPLIANCE_RESIDENCY_FAIRNESS_WAIT_S": "60",
        "APPLIANCE_REQUESTS_HOLD_S": "2",
    }
    with three_models(binary, tmp_path, **limits) as one:
        body = {"model": "a", "prompt": "count", "max_tokens": 4000, "stream": True, "nvext": {"ignore_eos": True}}
        busy = urllib.request.Request(
            one.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(busy, timeout=30) as stream:
            stream.readline()
            status, answer = refusal(lambda: ask(one, "b"))
        assert status == 503
        assert "waiting for memory: a is in use" in answer["error"]["message"]

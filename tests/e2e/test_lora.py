"""LoRA adapters outlive the appliance and its workers, whatever becomes of their folders."""

import json
import shutil
import signal
import urllib.error
from pathlib import Path
from typing import Any

import psutil

from appliance.models.demo import demo_model_path
from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal
from tests.helpers.foreign_engines import STAND_INS

STAND_IN = f"command={STAND_INS['vllm']}"
PATIENCE_S = 60.0


def flags(state: Path, *, replicas: int) -> list[str]:
    """The stand-in in place of an installed vLLM; it takes a while to load an adapter."""
    words = ["--engine", "vllm", "--context-length", "512", "--served-model-name", "base", "--replicas", str(replicas)]
    for one in (STAND_IN, f"fake_mark={state}", "enable_lora=true", "fake_lora_s=0.3"):
        words += ["--engine-arg", one]
    return [*words, str(demo_model_path())]


def servers(state: Path) -> list[psutil.Process]:
    """The stand-in servers of this appliance that run."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        is_alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if "tests.fakes.engines.fake_vllm" in words and str(state) in words and is_alive:
            found.append(process)
    return found


def adapters(one: Appliance) -> dict[str, dict[str, Any]]:
    """What `lora list` says, by name."""
    return {row["name"]: row for row in json.loads(one.cli("lora", "list", "--json"))}


def holders(one: Appliance) -> set[str]:
    """The workers that have the poet."""
    return set(adapters(one)["poet"]["workers"])


def offered(one: Appliance) -> set[str]:
    return {entry["id"] for entry in json.loads(one.get("/v1/models"))["data"]}


def ask(one: Appliance, model: str, times: int = 1) -> bool:
    """True; every question has to be answered at the first attempt."""
    for _ in range(times):
        try:
            answer = one.chat(model, "hello", max_tokens=3)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{error.code}: {error.read().decode()}") from None
        assert answer["usage"]["completion_tokens"] == 3
    return True


def test_adapters_are_there_again_after_a_restart(binary: str | None, tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "adapters"
    for name in ("poet", "critic", "clerk"):
        (folder / name).mkdir(parents=True)
    with appliance(binary, state, *flags(state, replicas=2)) as one:
        for name in ("poet", "critic", "clerk"):
            assert "is loaded on 2 workers" in one.cli("lora", "load", "base", name, str(folder / name))
        one.cli("lora", "unload", "clerk")
        one.stop(signal.SIGKILL)

    eventually(lambda: not servers(state))
    shutil.rmtree(folder / "critic")
    with appliance(binary, state) as one:
        assert one.models == ["base", "poet"], "the ready line waits for the adapters"
        ask(one, "poet", times=6)
        ask(one, "base")
        check_what_is_said_of_one_whose_folder_is_gone(one)
        check_that_it_can_be_put_back(one, folder / "critic")
        assert "clerk" not in offered(one)


def check_what_is_said_of_one_whose_folder_is_gone(one: Appliance) -> None:
    found = adapters(one)
    assert (found["poet"]["phase"], len(found["poet"]["workers"])) == ("ready", 2)
    assert (found["critic"]["phase"], found["critic"]["workers"]) == ("failed", [])
    assert "there is no adapter folder" in found["critic"]["reason"]
    assert [line.split()[:3] for line in one.cli("lora", "list").splitlines()[1:]] == [
        ["critic", "base", "failed"],
        ["poet", "base", "ready"],
    ]
    refusals = [row for row in json.loads(one.cli("why", "critic", "--json")) if row["action"] == "refuse"]
    assert len(refusals) == 2, "one for each worker"
    assert refusals[0]["reason"].startswith("cannot load the adapter: there is no adapter folder /")
    status, body = refusal(lambda: one.chat("critic", "hello"))
    assert (status, "/" in body["error"]["message"]) == (503, False)
    assert "no worker could load the adapter" in body["error"]["message"]


def check_that_it_can_be_put_back(one: Appliance, folder: Path) -> None:
    folder.mkdir()
    assert "is loaded on 2 workers" in one.cli("lora", "load", "base", "critic", str(folder))
    assert adapters(one)["critic"]["phase"] == "ready"
    ask(one, "critic", times=2)


def test_a_worker_that_starts_again_has_the_adapters_before_it_serves(binary: str | None, tmp_path: Path) -> None:
    state, poet = tmp_path / "state", tmp_path / "poet"
    poet.mkdir()
    with appliance(binary, state, *flags(state, replicas=2)) as one:
        one.cli("lora", "load", "base", "poet", str(poet))
        first, before = servers(state), holders(one)
        first[0].kill()
        eventually(lambda: ask(one, "poet") and len(holders(one) - before) == 1, PATIENCE_S)
        assert len(holders(one) & before) == 1
        assert {server.pid for server in servers(state)} & {server.pid for server in first} == {first[1].pid}

        poet.rmdir()
        first[1].kill()
        eventually(lambda: adapters(one)["poet"]["reason"], PATIENCE_S)
        assert adapters(one)["poet"]["phase"] == "ready", "one worker has it still"
        eventually(lambda: [worker["phase"] for worker in one.status()["workers"]] == ["ready", "ready"], PATIENCE_S)
        ask(one, "poet", times=6)
        ask(one, "base", times=2)

"""Engines that are servers of another project: served like any model, restarted when they die, never left behind."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from appliance.models.demo import demo_model_path
from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal
from tests.fakes.engines.fake_openai import FakeOpenAi
from tests.fakes.engines.serving import serve
from tests.helpers.foreign_engines import STAND_INS
from tests.helpers.threaded_http import serving_in_thread

STAND_IN = f"command={STAND_INS['vllm']}"
GONE_S = 5.0


@contextmanager
def openai_server(*models: str) -> Iterator[tuple[str, FakeOpenAi]]:
    fake = FakeOpenAi(models=list(models))
    with serving_in_thread(serve(0, fake.routes())) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}", fake


def stand_ins(one: Appliance) -> list[psutil.Process]:
    """Stand-in servers of this appliance: its socket folder is nowhere, but its model is in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = process.info["cmdline"] or []
        if "tests.fakes.engines.fake_vllm" in words and str(one.state_dir) in words:
            found.append(process)
    return found


def start_vllm(binary: str | None, state: Path) -> list[str]:
    """Flags of `serve`; the state dir is among the stand-in's arguments, so that it can be found."""
    flags = ["--engine", "vllm", "--engine-arg", STAND_IN, "--engine-arg", f"fake_mark={state}"]
    return [*flags, "--context-length", "512", "--served-model-name", "demo", str(demo_model_path())]


def test_the_models_of_a_remote_server_are_served(binary: str | None, tmp_path: Path) -> None:
    with openai_server("tiny-a", "tiny-b") as (url, fake):
        with appliance(binary, tmp_path / "state", "--engine", "remote", "--engine-url", url) as one:
            assert sorted(one.models) == ["tiny-a", "tiny-b"]
            answer = one.chat("tiny-b", "hello there")
            assert answer["choices"][0]["message"]["content"] == "you said: hello there"
            assert answer["usage"]["prompt_tokens"] == 11
            status, body = refusal(lambda: one.chat("tiny-a", "this is too long"))
            assert (status, "/secret" in str(body)) == (400, False)
        assert {body["model"] for body in fake.bodies} == {"tiny-a", "tiny-b"}


def test_an_unreachable_remote_server_ends_the_start_in_one_line(binary: str | None, tmp_path: Path) -> None:
    one = Appliance(binary, tmp_path / "state")
    failed = one.run("serve", "--port", "0", "--engine", "remote", "--engine-url", "http://127.0.0.1:9", timeout=30)
    assert failed.returncode == 1
    assert "http://127.0.0.1:9" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_server_that_is_killed_comes_back_and_none_outlives_its_worker(binary: str | None, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with appliance(binary, state, *start_vllm(binary, state)) as one:
        assert one.chat("demo", "hello", max_tokens=5)["usage"]["completion_tokens"] == 5
        (first,) = stand_ins(one)
        os.kill(first.pid, signal.SIGKILL)
        assert eventually(lambda: [new for new in stand_ins(one) if new.pid != first.pid])
        assert one.chat("demo", "hello", max_tokens=5)["usage"]["completion_tokens"] == 5
        assert "was killed by signal 9" in one.cli("logs", "worker")

        (second,) = stand_ins(one)
        (worker,) = one.workers()
        os.kill(worker.pid, signal.SIGKILL)
        eventually(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE, timeout=GONE_S)
        assert one.chat("demo", "hello", max_tokens=5)["usage"]["completion_tokens"] == 5

        (third,) = stand_ins(one)
        os.kill(one.pid, signal.SIGKILL)
        eventually(lambda: not third.is_running() or third.status() == psutil.STATUS_ZOMBIE, timeout=GONE_S)


def test_a_server_that_cannot_start_says_why(binary: str | None, tmp_path: Path) -> None:
    state = tmp_path / "state"
    flags = ["--engine", "mocker", "m"]
    with appliance(binary, state, *flags) as one:
        args = ["worker", "--engine", "vllm", "--model", str(demo_model_path())]
        args += ["--engine-arg", STAND_IN, "--engine-arg", "fake_crash=cache"]
        container = {"name": "main", "args": args}
        spec = {"components": [{"name": "w", "type": "worker", "podTemplate": {"spec": {"containers": [container]}}}]}
        kind = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "metadata": {"name": "broken"}}
        one.cli("apply", "-f", "-", input=json.dumps({**kind, "spec": spec}))
        (failed,) = eventually(lambda: [w for w in one.status()["workers"] if w["phase"] == "failed"])
        assert "context length does not fit" in failed["reason"]
        assert failed["restarts"] == 0

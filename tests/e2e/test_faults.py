"""Processes are killed on purpose: nobody is left behind, nobody hangs, and what was wanted comes back."""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.e2e.appliance_process import Appliance, appliance, eventually

GONE_S = 5.0  # the promise: no worker survives the appliance by more than this


def gone(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def family_members(one: Appliance) -> dict[str, psutil.Process]:
    """Processes of which a kill must end all the others: the one we started and, in the one-file build, its child."""
    family = one.family()
    members = {"started": family[0]}
    if one.binary:
        members["python"] = next(p for p in family[1:] if "serve" in p.cmdline())
    return members


@pytest.mark.parametrize("victim", ["started", "python"])
def test_sigkill_of_the_appliance_leaves_no_process(binary: str | None, tmp_path: Path, victim: str) -> None:
    one = Appliance(binary, tmp_path / "state")
    one.start("--engine", "mocker", "--replicas", "2", "m")
    family, members = one.family(), family_members(one)
    if victim not in members:
        one.stop()
        pytest.skip("only the one-file build has a second process")
    members[victim].send_signal(signal.SIGKILL)
    eventually(lambda: gone(family), timeout=GONE_S)
    one.stop()
    with appliance(binary, tmp_path / "state") as again:
        assert again.models == ["m"]


def test_sigterm_finishes_running_requests(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "--engine-arg", "step_ms=20", "m") as one:
        answers: list[int] = []

        def ask() -> None:
            answers.append(one.chat("m", "x", max_tokens=50)["usage"]["completion_tokens"])

        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: one.status()["active_requests"] == 1)
        family = one.family()
        assert one.stop() == 0
        asking.join(5)
        assert answers == [50]
        assert gone(family)


def test_a_second_signal_stops_at_once(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "--engine-arg", "step_ms=100", "m") as one:
        asking = threading.Thread(target=_ignore_errors, args=(one,))
        asking.start()
        eventually(lambda: one.status()["active_requests"] == 1)
        assert one.process is not None
        one.process.send_signal(signal.SIGINT)
        time.sleep(0.8)
        started = time.monotonic()
        one.process.send_signal(signal.SIGINT)
        one.process.wait(10)
        assert time.monotonic() - started < 5
        asking.join(10)


def _ignore_errors(one: Appliance) -> None:
    try:
        one.chat("m", "x", max_tokens=1000)
    except (OSError, urllib.error.HTTPError, json.JSONDecodeError):
        return


def test_a_second_appliance_on_the_state_dir_is_refused(demo: Appliance) -> None:
    second = demo.run("serve", "--port", "0", timeout=30)
    assert second.returncode == 1
    assert str(demo.pid) in second.stderr or "pid" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_one_clear_line(demo: Appliance, binary: str | None, tmp_path: Path) -> None:
    other = Appliance(binary, tmp_path / "state")
    failed = other.run("serve", "--port", str(demo.port), timeout=30)
    assert failed.returncode == 1
    assert str(demo.port) in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


def test_a_truncated_model_fails_alone(binary: str | None, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\x01" * 100)
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "good") as one:
        graph = {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": "broken"},
            "spec": {
                "components": [
                    {
                        "name": "Bad",
                        "type": "worker",
                        "podTemplate": {
                            "spec": {"containers": [{"name": "main", "args": ["worker", "--model", str(bad)]}]}
                        },
                    }
                ]
            },
        }
        file = tmp_path / "broken.yaml"
        file.write_text(json.dumps(graph))
        one.cli("apply", "-f", str(file))
        failed = eventually(lambda: [w for w in one.status()["workers"] if w["phase"] == "failed"])
        assert "bad.gguf" in failed[0]["reason"]
        assert one.chat("good", "x", max_tokens=2)["usage"]["completion_tokens"] == 2


@pytest.mark.slow
def test_64_streams_while_a_worker_is_killed_every_second(binary: str | None, tmp_path: Path) -> None:
    """No request fails, and every stream says what it would have said undisturbed: its seed tells.

    At this pace of kills a stream may lose its worker more often than the default limit of moves has in mind.
    """
    args = ("--engine", "mocker", "--replicas", "2", "--engine-arg", "step_ms=5", "--migration-limit", "20", "m")
    with appliance(binary, tmp_path / "state", *args) as one:
        outcomes: Counter[str] = Counter()
        stop = threading.Event()
        expected = [_undisturbed(one, seed) for seed in range(8)]
        assert len(set(expected)) == 8
        threads = [
            threading.Thread(target=_stream_until, args=(one, stop, outcomes, number % 8, expected[number % 8]))
            for number in range(64)
        ]
        for thread in threads:
            thread.start()
        for _ in range(30):
            time.sleep(1)
            workers = one.workers()
            if workers:
                workers[0].kill()
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not [t for t in threads if t.is_alive()], "a request hung"
        assert set(outcomes) == {"complete"}, outcomes
        assert outcomes["complete"] > 64  # more than once each, however slow the machine
        eventually(lambda: one.status()["active_requests"] == 0)


def _undisturbed(one: Appliance, seed: int) -> str:
    text: str = one.chat("m", "x", max_tokens=100, seed=seed)["choices"][0]["message"]["content"]
    return text


def _stream_until(one: Appliance, stop: threading.Event, outcomes: Counter[str], seed: int, expected: str) -> None:
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "m", "messages": messages, "max_tokens": 100, "stream": True, "temperature": 0, "seed": seed}
    while not stop.is_set():
        request = urllib.request.Request(
            one.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
            outcomes[str(error.code)] += 1
            continue
        except OSError as error:
            outcomes[repr(error)] += 1
            continue
        if not text.endswith("data: [DONE]\n\n"):
            outcomes["cut off"] += 1
        elif '"error"' in text:
            outcomes["error in stream"] += 1
        elif _streamed_text(text) != expected:
            outcomes["other text"] += 1
        else:
            outcomes["complete"] += 1


def _streamed_text(events: str) -> str:
    found = [json.loads(line.removeprefix("data: ")) for line in events.split("\n\n") if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in found for choice in event["choices"])


@pytest.mark.slow
def test_a_frozen_worker_is_replaced_and_its_stream_goes_on(binary: str | None, tmp_path: Path) -> None:
    """SIGSTOP: the process is there, its sockets are open, and nothing comes any more."""
    limits = {"APPLIANCE_SUPERVISION_HEARTBEAT_S": "0.5", "APPLIANCE_SUPERVISION_SILENCE_S": "3"}
    one = Appliance(binary, tmp_path / "state", limits)
    one.start("--engine", "mocker", "--engine-arg", "step_ms=20", "m")
    try:
        answers: list[int] = []

        def ask() -> None:
            answers.append(one.chat("m", "x", max_tokens=200)["usage"]["completion_tokens"])

        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: one.status()["active_requests"] == 1)
        frozen, before = one.workers()[0], one.status()["workers"][0]["id"]
        frozen.send_signal(signal.SIGSTOP)
        asking.join(60)
        assert answers == [200]
        assert gone([frozen])
        assert one.status()["workers"][0]["restarts"] == 1
        assert "no sign of life for 3 s" in one.cli("why", before)
    finally:
        one.stop()

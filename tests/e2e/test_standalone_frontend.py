"""One front end and its workers without a supervisor: found by their sockets, lost, found again; pins; refusals."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.appliance_process import eventually
from tests.e2e.role_process import Role
from tests.e2e.standalone_set import MODEL, StandaloneSet, Stream, chat, instances, loaded_workers, standalone_set
from tests.e2e.started_process import command, login_environment

SLOW = ("--engine-arg", "step_ms=20")
# Several blocks long, so that it can be found in a cache, and be seen as load.
LONG_PROMPT = [{"role": "user", "content": "the same words come again and again " * 12}]


@pytest.fixture
def alone(binary: str | None, tmp_path: Path) -> Iterator[StandaloneSet]:
    with standalone_set(binary, tmp_path) as one:
        yield one


def has_workers(front_end: Role, count: int) -> bool:
    return len(instances(front_end)) == count


def test_a_front_end_serves_before_and_after_workers_come(alone: StandaloneSet) -> None:
    before = int(time.time())
    with alone.front_end("--router-mode", "kv", "--hold-s", "5") as front_end:
        assert front_end.ask("GET", "/live")[0] == 200
        assert front_end.ask("GET", "/health") == (
            503,
            {"status": "starting", "endpoints": [], "instances": [], "message": "no worker is ready yet"},
        )
        assert front_end.ask("GET", "/v1/models")[1]["data"] == []
        assert front_end.ask("POST", "/v1/chat/completions", chat())[0] == 404
        alone.worker("a")
        alone.worker("b")
        eventually(lambda: has_workers(front_end, 2))
        (model,) = front_end.ask("GET", "/v1/models")[1]["data"]
        assert model["id"] == MODEL
        assert before <= model["created"] <= time.time()
        check_cache_is_followed(front_end)
        check_control_app(front_end)
        assert front_end.stop(signal.SIGTERM) == 0


def check_cache_is_followed(front_end: Role) -> None:
    """What the worker says of its cache comes over the link: the same prompt finds itself there."""
    extra = {"nvext": {"extra_fields": ["worker_id"]}, "messages": LONG_PROMPT}

    def ask() -> tuple[int, int]:
        answer = front_end.ask("POST", "/v1/chat/completions", chat(**extra))[1]
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["nvext"]["worker_id"][
            "decode_worker_id"
        ]

    first = ask()
    assert first[0] == 0
    eventually(lambda: "kv_cache_events_applied{" in front_end.ask("GET", "/metrics")[1])
    for _ in range(3):
        cached, worker = ask()
        assert cached > 0
        assert worker == first[1]


def check_control_app(front_end: Role) -> None:
    metrics = front_end.ask("GET", "/metrics")[1]
    assert f'appliance_workers{{model="{MODEL}",phase="ready"}} 2.0' in metrics
    assert f'dynamo_frontend_model_context_length{{model="{MODEL}"}}' in metrics
    assert "/v1/chat/completions" in front_end.ask("GET", "/openapi.json")[1]["paths"]
    order = {"model": MODEL, "active_decode_blocks_threshold": 0.5}
    assert front_end.ask("POST", "/busy_threshold", order)[1]["active_decode_blocks_threshold"] == 0.5
    (threshold,) = front_end.ask("GET", "/busy_threshold")[1]["thresholds"]
    assert threshold["active_decode_blocks_threshold"] == 0.5
    assert front_end.ask("GET", "/nothing")[0] == 404


def test_a_killed_worker_loses_no_stream_and_is_found_again(alone: StandaloneSet) -> None:
    workers = {name: alone.worker(name, *SLOW) for name in ("a", "b")}
    with alone.front_end("--router-mode", "kv") as front_end:  # in this mode the load of each worker is known
        numbers = instances(front_end)
        expected = Stream(front_end.port, max_tokens=40, messages=LONG_PROMPT).text()
        stream = Stream(front_end.port, max_tokens=40, messages=LONG_PROMPT)
        eventually(lambda: len(stream.words) > 3)
        (busy,) = loaded_workers(front_end)
        victim = next(one for one in workers.values() if numbers[one.socket.name] == busy)
        victim.stop(signal.SIGKILL)
        assert stream.is_alive(), "the stream ended before its worker was killed"
        assert stream.text() == expected
        numbers.pop(victim.socket.name)
        eventually(lambda: instances(front_end) == numbers)
        victim.start()
        eventually(lambda: has_workers(front_end, 2))
        assert front_end.ask("POST", "/v1/chat/completions", chat())[0] == 200


def test_a_request_waits_for_the_only_worker_to_come_back(alone: StandaloneSet) -> None:
    only = alone.worker("a", *SLOW)
    with alone.front_end() as front_end:
        eventually(lambda: has_workers(front_end, 1))
        stream = Stream(front_end.port, max_tokens=20)
        eventually(lambda: len(stream.words) > 3)
        only.stop(signal.SIGKILL)
        eventually(lambda: has_workers(front_end, 0))
        assert [row["id"] for row in front_end.ask("GET", "/v1/models")[1]["data"]] == [MODEL]
        only.start()
        stream.text()


def test_stop_signals_let_streams_end(alone: StandaloneSet) -> None:
    worker = alone.worker("a", *SLOW)
    with alone.front_end() as front_end:
        eventually(lambda: has_workers(front_end, 1))
        stream = Stream(front_end.port, max_tokens=30)
        eventually(lambda: len(stream.words) > 3)
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: has_workers(front_end, 0))
        front_end.process.send_signal(signal.SIGTERM)
        stream.text()
        assert front_end.process.wait(20) == 0
        assert worker.process.wait(20) == 0
    assert not worker.socket.exists()


def test_direct_mode_takes_the_worker_that_a_request_names(alone: StandaloneSet) -> None:
    for name in ("a", "b"):
        alone.worker(name)
    with alone.front_end("--router-mode", "direct") as front_end:
        assert has_workers(front_end, 2), "those that are there at the start can be named from the ready line on"
        for number in instances(front_end).values():
            told = chat(nvext={"extra_fields": ["worker_id"], "backend_instance_id": number})
            asked = chat(nvext={"extra_fields": ["worker_id"]}), {"x-worker-instance-id": str(number)}
            for body, headers in ((told, {}), asked):
                status, answer = front_end.ask("POST", "/v1/chat/completions", body, headers)
                assert (status, answer["nvext"]["worker_id"]["decode_worker_id"]) == (200, number)
        assert front_end.ask("POST", "/v1/chat/completions", chat())[0] == 400
        status, answer = front_end.ask("POST", "/v1/chat/completions", chat(), {"x-worker-instance-id": "1"})
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_an_address_for_others_needs_a_key(alone: StandaloneSet) -> None:
    keys = alone.folder / "keys"
    keys.write_text("secret\n")
    with alone.front_end("--host", "0.0.0.0", "--api-key-file", str(keys)) as front_end:
        assert front_end.ask("GET", "/live")[0] == 200
        assert front_end.ask("GET", "/v1/models")[0] == 401
        assert front_end.ask("GET", "/metrics")[0] == 401
        assert front_end.ask("GET", "/v1/models", headers={"x-api-key": "secret"})[0] == 200


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("frontend", "--workers", "{}/nothing"), 2, "cannot look for workers in {}/nothing: No such file"),
        (("frontend", "--workers", "{}", "--port", "TAKEN"), 1, "another program uses it"),
        (("frontend", "--workers", "{}", "--http-host", "0.0.0.0"), 2, "without an API key"),
    ],
)
def test_what_cannot_be_is_one_line(
    binary: str | None, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        argv = [port if part == "TAKEN" else part.format(tmp_path) for part in arguments]
        done = subprocess.run(
            [*command(binary), *argv, "--state-dir", str(tmp_path / "state")],
            env=login_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert said.format(tmp_path) in line

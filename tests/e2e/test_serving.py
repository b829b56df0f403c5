"""Promises about requests while things change: cold models, rolling changes, clients that leave, TLS, keys."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal

MOCKER = ("--engine", "mocker")


def in_background(work: Any) -> tuple[threading.Thread, list[Any]]:
    """Run something in a thread; its result, or its exception, comes into the list."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # the test looks at what it was
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def tokens(answer: dict[str, Any]) -> int:
    found: int = answer["usage"]["completion_tokens"]
    return found


def test_a_request_to_a_cold_model_waits_and_then_runs(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", *MOCKER, "--replicas", "0", "m", wait=True) as one:
        thread, results = in_background(lambda: tokens(one.chat("m", "x", max_tokens=4)))
        eventually(lambda: one.status()["active_requests"] == 1)
        one.cli("scale", "worker", "--replicas", "1")
        thread.join(30)
        assert results == [4]


def test_a_changed_spec_is_rolled_out_without_a_failed_request(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", *MOCKER, "--engine-arg", "text=old", "--replicas", "2", "m") as one:
        graph = json.loads(one.cli("get", "dgd", "serve", "-o", "json"))
        args = graph["spec"]["components"][1]["podTemplate"]["spec"]["containers"][0]["args"]
        args[args.index("text=old")] = "text=new"
        stop = threading.Event()

        def ask_on() -> set[str]:
            seen = set()
            while not stop.is_set():
                seen.add(one.chat("m", "x")["choices"][0]["message"]["content"])
            return seen

        thread, results = in_background(ask_on)
        file = tmp_path / "changed.yaml"
        file.write_text(json.dumps(graph))
        before = {p.pid for p in one.workers()}
        one.cli("apply", "-f", str(file))
        eventually(lambda: len(one.status()["workers"]) == 2 and not before & {p.pid for p in one.workers()})
        stop.set()
        thread.join(10)
        assert results == [{"old", "new"}]
        assert one.chat("m", "x")["choices"][0]["message"]["content"] == "new"


def test_a_client_that_leaves_frees_its_worker(binary: str | None, tmp_path: Path) -> None:
    args = (*MOCKER, "--engine-arg", "max_num_seqs=1", "--engine-arg", "step_ms=20", "m")
    with appliance(binary, tmp_path / "state", *args) as one:
        connection = http.client.HTTPConnection("127.0.0.1", one.port)
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5000, "stream": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        assert connection.getresponse().readline().startswith(b"data:")
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        eventually(lambda: one.status()["active_requests"] == 0)
        # The only slot is free again, so this does not wait behind 100 s of output.
        assert tokens(one.chat("m", "x", max_tokens=2)) == 2


def test_two_front_ends_share_the_port(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", *MOCKER, "--frontend-processes", "2", "m") as one:
        front_ends = one.status()["frontends"]
        assert len({f["pid"] for f in front_ends}) == 2
        for _ in range(20):
            assert tokens(one.chat("m", "x", max_tokens=1)) == 1
        text = one.get("/metrics").decode()
        assert 'status="success"} 20.0' in text


def test_a_front_end_that_dies_comes_back_on_the_same_port(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", *MOCKER, "m") as one:
        (front_end,) = one.status()["frontends"]
        subprocess.run(["kill", "-9", str(front_end["pid"])], check=True)
        eventually(
            lambda: one.status()["frontends"][0]["phase"] == "ready" and one.status()["frontends"][0]["restarts"]
        )
        assert tokens(one.chat("m", "x", max_tokens=1)) == 1


def test_a_wide_bind_without_a_key_is_refused(binary: str | None, tmp_path: Path) -> None:
    refused = Appliance(binary, tmp_path / "state").run("serve", "--host", "0.0.0.0", "--port", "0", *MOCKER, "m")
    assert refused.returncode == 2
    assert "keys create" in refused.stderr


def test_keys_of_a_file_are_asked_for(binary: str | None, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-key\n")
    with appliance(binary, tmp_path / "state", "--api-key-file", str(keys), *MOCKER, "m") as one:
        assert refusal(lambda: one.get("/v1/models"))[0] == 401
        request = urllib.request.Request(one.url + "/v1/models", headers={"x-api-key": "secret-key"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "m"
        assert json.loads(one.get("/health"))["status"] == "healthy"


def test_one_stored_graph_that_cannot_run_does_not_keep_the_others_from_being_ready(
    binary: str | None, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    with appliance(binary, tmp_path / "state", *MOCKER, "good") as one:
        stored = json.loads(one.cli("get", "dgd", "serve", "-o", "json"))
        (front_end, worker) = stored["spec"]["components"]
        worker["podTemplate"]["spec"]["containers"][0]["args"] = ["worker", "--model", str(bad)]
        file = tmp_path / "broken.json"
        broken = {**stored, "metadata": {"name": "broken"}, "spec": {"components": [front_end, worker]}}
        broken.pop("status")
        file.write_text(json.dumps(broken))
        one.cli("apply", "-f", str(file))
        eventually(lambda: any(w["phase"] == "failed" for w in one.status()["workers"]))
    with appliance(binary, tmp_path / "state") as again:
        assert again.models == ["good"]
        assert json.loads(again.get("/health"))["status"] == "healthy"


def test_a_foreign_page_cannot_drive_a_local_appliance(demo: Appliance) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        request = urllib.request.Request(demo.url + "/v1/models", headers=headers)
        code, _ = refusal(partial(urllib.request.urlopen, request, timeout=10))
        assert code == 403


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https(binary: str | None, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    args = ("--tls-cert-path", str(cert), "--tls-key-path", str(key))
    with appliance(binary, tmp_path / "state", *args, *MOCKER, "m") as one:
        context = ssl.create_default_context(cafile=str(cert))
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 50, "stream": True}
        request = urllib.request.Request(f"https://127.0.0.1:{one.port}/v1/chat/completions", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            text = answer.read()
        assert text.endswith(b"data: [DONE]\n\n")
        with urllib.request.urlopen(f"https://127.0.0.1:{one.port}/health", timeout=10, context=context) as answer:
            assert answer.status == 200


def test_a_model_that_cannot_load_ends_the_start_with_one_line(binary: str | None, tmp_path: Path) -> None:
    one = Appliance(binary, tmp_path / "state")
    started = time.monotonic()
    failed = one.run("serve", "--port", "0", "--log-level", "error", str(tmp_path / "absent.gguf"))
    assert failed.returncode == 1
    assert "absent.gguf" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert time.monotonic() - started < 30


def test_nothing_is_written_outside_the_state_dir(binary: str | None, tmp_path: Path) -> None:
    home, temp = tmp_path / "home", tmp_path / "state" / "tmp"
    home.mkdir()
    temp.mkdir(parents=True)
    one = Appliance(binary, tmp_path / "state", extra_env={"HOME": str(home), "TMPDIR": str(temp)})
    one.start()
    try:
        one.chat(one.models[0], "Hi")
        assert list(home.iterdir()) == []
        assert {path.name for path in tmp_path.iterdir()} == {"home", "state", "state.log"}
    finally:
        assert one.stop() == 0

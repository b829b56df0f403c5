"""Changes and faults while the appliance runs: what is left goes on serving, and what was wanted comes back."""

import json
import threading
import time
from pathlib import Path
from typing import Any

from tests.e2e.appliance_process import Appliance, appliance, eventually, refusal


def apply(one: Appliance, folder: Path, name: str, *args: str, replicas: int = 1) -> None:
    """Apply a graph with one worker component, `w`."""
    container = {"name": "main", "args": ["worker", *args]}
    worker: dict[str, Any] = {"name": "w", "type": "worker", "replicas": replicas}
    worker["podTemplate"] = {"spec": {"containers": [container]}}
    kind = {"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "metadata": {"name": name}}
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**kind, "spec": {"components": [worker]}}))
    one.cli("apply", "-f", str(file))


def test_front_ends_that_were_scaled_away_get_no_connections(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "--frontend-processes", "3", "m") as one:
        assert len(one.status()["frontends"]) == 3
        one.cli("scale", "frontend", "--replicas", "1")
        eventually(lambda: len(one.status()["frontends"]) == 1)
        for _ in range(12):
            assert one.get("/v1/models")


def test_a_request_for_a_failed_model_gets_the_reason_soon(binary: str | None, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\x01" * 100)
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        apply(one, tmp_path, "broken", "--model", str(tmp_path / "bad.gguf"))
        asked = time.monotonic()
        status, body = refusal(lambda: one.chat("bad", "x"))  # held while it starts, let go when it has failed
        assert (status, body["error"]["code"]) == (503, "model_not_ready")
        assert "bad.gguf" in body["error"]["message"]
        assert str(tmp_path) not in body["error"]["message"]
        assert refusal(lambda: one.chat("bad", "x"))[0] == 503
        assert time.monotonic() - asked < 15


def test_a_request_held_for_a_deleted_model_ends_with_it(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        apply(one, tmp_path, "cold", "--engine", "mocker", "--model", "c", replicas=0)
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(refusal(lambda: one.chat("c", "x"))[0]))
        asking.start()
        eventually(lambda: one.status()["active_requests"] == 1)
        one.cli("delete", "dgd", "cold")
        asking.join(10)
        assert answers == [404]


def test_a_missing_certificate_ends_the_start_at_once(binary: str | None, tmp_path: Path) -> None:
    one = Appliance(binary, tmp_path / "state")
    flags = ("--tls-cert-path", str(tmp_path / "no.pem"), "--tls-key-path", str(tmp_path / "no.key"))
    failed = one.run("serve", "--port", "0", "--engine", "mocker", *flags, "m", timeout=20)
    assert failed.returncode == 2
    assert "no.pem" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_worker_with_wrong_arguments_is_not_started_over_and_over(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        apply(one, tmp_path, "odd", "--engine", "mocker", "--model", "x", "--context-length", "many")
        (failed,) = eventually(lambda: [w for w in one.status()["workers"] if w["phase"] == "failed"])
        assert failed["restarts"] == 0
        assert "arguments" in failed["reason"]

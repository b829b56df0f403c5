"""Several front-end processes on one port act as one: restarted, scaled, killed, and what clients notice of it."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.e2e.appliance_process import Appliance, appliance, eventually
from tests.helpers.http_load import load

ARGS = ("--engine", "mocker", "--replicas", "2", "--engine-arg", "step_ms=5", "--router-mode", "kv")


@pytest.fixture(scope="module")
def pair(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance with two front ends."""
    folder = tmp_path_factory.mktemp("pair")
    with appliance(binary, folder / "state", *ARGS, "--frontend-processes", "2", "m") as one:
        yield one


def front_ends(one: Appliance) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one.status()["frontends"]
    return found


def front_end_pids(one: Appliance) -> set[int]:
    return {row["pid"] for row in front_ends(one) if row["pid"] is not None}


def ready_count(one: Appliance) -> int:
    rows = front_ends(one)
    return len(rows) if all(row["phase"] == "ready" for row in rows) else 0


def finished_requests(one: Appliance) -> float:
    text = one.get("/metrics").decode()
    return sum(float(n) for n in re.findall(r"^dynamo_frontend_requests_total\{.*\} (\S+)$", text, re.MULTILINE))


def server_pid(port: int, client: socket.socket) -> int | None:
    """The process that has accepted a client's connection."""
    here = client.getsockname()
    return next(
        (c.pid for c in psutil.net_connections("tcp4") if c.raddr == here and c.laddr and c.laddr.port == port), None
    )


def test_connections_spread_and_a_prompt_goes_to_the_same_worker_from_everywhere(pair: Appliance) -> None:
    """Prefixes need no telling: every front end hears what the workers cache."""
    eventually(lambda: ready_count(pair) == 2)
    clients = [socket.create_connection(("127.0.0.1", pair.port)) for _ in range(24)]
    try:
        served_by = eventually(
            lambda: (
                (found := {client: server_pid(pair.port, client) for client in clients})
                and None not in found.values()
                and found
            )
        )
        assert set(served_by.values()) == front_end_pids(pair)
        one_each = {pid: client for client, pid in served_by.items()}
        prompt = " ".join(f"word{number}" for number in range(200))
        cached = []
        for client in (*one_each.values(), *one_each.values()):
            usage = ask(client, prompt)["usage"]
            cached.append(usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"])
            time.sleep(0.1)  # the worker's word of it is on its way to all
        assert cached[0] < 0.2
        assert min(cached[1:]) > 0.8, cached
    finally:
        for client in clients:
            client.close()


def ask(client: socket.socket, prompt: str) -> dict[str, Any]:
    """One request over an open connection."""
    body = json.dumps({"model": "m", "prompt": prompt, "max_tokens": 2}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    client.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    data = b""
    while not re.search(rb"\r\n\r\n\{.*\}\s*$", data, re.DOTALL):
        data += client.recv(65536)
    found: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
    return found


def test_a_killed_front_end_ends_its_own_streams_only(pair: Appliance) -> None:
    """The others complete, nobody hangs, what waits in its queue is served by its successor, and totals do not fall."""
    eventually(lambda: ready_count(pair) == 2)
    victim = min(front_end_pids(pair))
    with load(pair.port, "m") as streams:
        streams.add_clients(100, tokens=400, stream=True, again=False)
        eventually(lambda: pair.status()["active_requests"] == 100)
        own = sum(
            1
            for c in psutil.Process(victim).net_connections("tcp4")
            if c.status == "ESTABLISHED" and c.laddr.port == pair.port
        )
        before = finished_requests(pair)
        os.kill(victim, signal.SIGSTOP)
        waiting = [socket.create_connection(("127.0.0.1", pair.port)) for _ in range(16)]
        for client in waiting:
            client.sendall(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        os.kill(victim, signal.SIGKILL)
        for client in waiting:
            client.settimeout(20)
            assert client.recv(12) == b"HTTP/1.1 200"
            client.close()
        outcomes = streams.finish()
    assert 0 < own < 100
    assert outcomes["ok"] == 100 - own, outcomes
    assert sum(count for what, count in outcomes.items() if what.startswith("broken")) == own, outcomes
    eventually(lambda: ready_count(pair) == 2 and victim not in front_end_pids(pair))
    assert finished_requests(pair) >= before + 100 - own


@pytest.mark.slow
def test_restart_loses_no_request_and_no_count(pair: Appliance) -> None:
    eventually(lambda: ready_count(pair) == 2)
    before, requests_before = front_end_pids(pair), finished_requests(pair)
    with load(pair.port, "m") as clients:
        clients.add_clients(20, tokens=2)
        clients.add_clients(10, tokens=150, stream=True)
        eventually(lambda: pair.status()["active_requests"] >= 10)
        pair.cli("restart", "frontend", "--wait")
        outcomes = clients.finish()
    assert set(outcomes) == {"ok"}, outcomes
    assert outcomes["ok"] > 100
    assert not before & front_end_pids(pair)
    assert ready_count(pair) == 2
    assert finished_requests(pair) == requests_before + outcomes["ok"]


def test_restart_says_what_it_does_not_know(pair: Appliance) -> None:
    refused = pair.run("restart", "nobody")
    assert refused.returncode == 1
    assert "no graph has a component 'nobody'" in refused.stderr


@pytest.mark.slow
def test_workers_restart_one_by_one(pair: Appliance) -> None:
    eventually(lambda: ready_count(pair) == 2)
    (component,) = {row["component"] for row in pair.status()["workers"]}
    before = {row["pid"] for row in pair.status()["workers"]}
    with load(pair.port, "m") as clients:
        clients.add_clients(4, tokens=20, stream=True)
        pair.cli("restart", component, "--wait")
        assert set(clients.finish()) == {"ok"}
    assert not before & {row["pid"] for row in pair.status()["workers"]}


@pytest.mark.slow
def test_scaling_loses_no_request(pair: Appliance) -> None:
    eventually(lambda: ready_count(pair) == 2)
    with load(pair.port, "m") as clients:
        clients.add_clients(20, tokens=2)
        clients.add_clients(5, tokens=150, stream=True)
        for replicas in (3, 1):
            pair.cli("scale", "frontend", "--replicas", str(replicas))
            eventually(lambda wanted=replicas: ready_count(pair) == wanted, timeout=40)
        outcomes = clients.finish()
    assert set(outcomes) == {"ok"}, outcomes

"""The indexer as a process: registered over HTTP, fed by publishers that are killed and come back, copied by a peer."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appliance_process import eventually
from tests.e2e.publisher_process import publisher, stored
from tests.e2e.role_process import Role, role
from tests.e2e.started_process import command

M = {"model_name": "m"}
HASHES = [14643705804678351452, 16777012769546811212, 483935686894639516]
"""Of the tokens 1 to 12 in blocks of 4, as published."""


def signed(values: list[int]) -> list[int]:
    return [value - 2**64 if value >= 2**63 else value for value in values]


@pytest.fixture(scope="module")
def indexer(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Role]:
    with role(binary, tmp_path_factory.mktemp("indexer"), "indexer", "--block-size", "4", "--port", "0") as one:
        yield one


class Rig:
    """One publisher's endpoints and its instance at an indexer; the number keeps tests apart."""

    def __init__(self, indexer: Role, folder: Path, instance: int, model: str) -> None:
        self.endpoint, self.replays = f"ipc://{folder}/e", f"ipc://{folder}/r"
        self.indexer, self.instance, self.model = indexer, instance, model

    def register(self, **more: Any) -> tuple[int, Any]:
        body = {"instance_id": self.instance, "endpoint": self.endpoint, "replay_endpoint": self.replays}
        return self.indexer.ask("POST", "/register", body | {"model_name": self.model, "block_size": 4} | more)

    def unregister(self, **more: Any) -> tuple[int, Any]:
        return self.indexer.ask("POST", "/unregister", {"instance_id": self.instance, "model_name": self.model} | more)

    def query(self, last_token: int = 12) -> Any:
        body = {"model_name": self.model, "token_ids": list(range(1, last_token + 1))}
        status, answer = self.indexer.ask("POST", "/query", body)
        assert status == 200
        return answer

    def status(self) -> str:
        rows = self.indexer.ask("GET", "/workers")[1]
        return next(str(row["status"]) for row in rows if row["instance_id"] == self.instance)

    def wait_for(self, tokens: int) -> Any:
        def matches() -> Any:
            found = self.query()
            got = found["instances"].get(str(self.instance), {"longest_matched": 0})
            return found if got["longest_matched"] == tokens else None

        return eventually(matches)


@pytest.fixture
def rig(indexer: Role, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    number = abs(hash(request.node.name)) % 2**63
    one = Rig(indexer, tmp_path, number, request.node.name)
    yield one
    one.unregister()


def test_queries_answer_in_tokens(rig: Rig) -> None:
    name = str(rig.instance)
    with publisher(rig.endpoint, rig.replays) as engine:
        assert rig.register() == (201, {"status": "ok"})
        engine.publish(stored([1, 2, 3], list(range(1, 13))))
        row = {"longest_matched": 12, "gpu": 12, "dp": {"0": 12}, "cpu": 12, "disk": 12}
        expected = {"scores": {name: {"0": 12}}, "frequencies": [], "instances": {name: row}}
        assert rig.wait_for(12) == expected
        by_hash = {"model_name": rig.model, "block_hashes": signed(HASHES)}
        assert rig.indexer.ask("POST", "/query_by_hash", by_hash) == (200, expected)
        assert rig.query(last_token=3) == {"scores": {}, "frequencies": [], "instances": {}}
        assert rig.query(last_token=7)["scores"] == {name: {"0": 4}}
        engine.publish({"removed": [2]})
        rig.wait_for(4)
        engine.publish({"cleared": True})
        rig.wait_for(0)


def test_tiers_continue_each_other(rig: Rig) -> None:
    with publisher(rig.endpoint, rig.replays) as engine:
        rig.register()
        engine.publish(
            stored([1], [1, 2, 3, 4]),
            stored([2], [5, 6, 7, 8], parent=1, medium="CPU_PINNED"),
            stored([3], [9, 10, 11, 12], parent=2, medium="EXTERNAL"),
        )
        found = rig.wait_for(12)
        assert found["scores"] == {str(rig.instance): {"0": 4}}
        row = {"longest_matched": 12, "gpu": 4, "dp": {"0": 4}, "cpu": 8, "disk": 12}
        assert found["instances"] == {str(rig.instance): row}


def test_a_dump_is_router_events(rig: Rig) -> None:
    with publisher(rig.endpoint, rig.replays) as engine:
        rig.register()
        engine.publish(stored([-1, 2], list(range(1, 9))))
        rig.wait_for(8)
        status, dumps = rig.indexer.ask("GET", "/dump")
        assert status == 200
        assert dumps[f"{rig.model}:default"]["block_size"] == 4
        events = dumps[f"{rig.model}:default"]["events"]
        blocks = [block for one in events for block in one["event"]["data"]["stored"]["blocks"]]
        assert [block["block_hash"] for block in blocks] == [2**64 - 1, 2]
        assert [block["tokens_hash"] for block in blocks] == HASHES[:2]
        assert {(one["worker_id"], one["storage_tier"], one["event"]["dp_rank"]) for one in events} == {
            (rig.instance, "device", 0)
        }


def test_a_killed_publisher_is_followed_again(rig: Rig) -> None:
    with publisher(rig.endpoint, rig.replays) as engine:
        rig.register()
        engine.publish(stored([1, 2], list(range(1, 9))))
        rig.wait_for(8)
        assert rig.status() == "active"
        engine.kill()
        eventually(lambda: rig.status() == "pending")
        assert rig.query()["scores"] != {}
    with publisher(rig.endpoint, rig.replays) as engine:
        engine.publish(stored([7], [1, 2, 3, 4]))
        rig.wait_for(4)
        engine.publish(stored([8, 9], list(range(5, 13)), parent=7))
        rig.wait_for(12)


def test_a_pause_is_made_up_for(rig: Rig) -> None:
    listener = {"instance_id": rig.instance, "dp_rank": 0}
    with publisher(rig.endpoint, rig.replays) as engine:
        rig.register()
        engine.publish(stored([1], [1, 2, 3, 4]))
        rig.wait_for(4)
        assert rig.indexer.ask("POST", "/test/pause_listener", listener)[0] == 200
        eventually(lambda: rig.status() == "paused")
        engine.publish(stored([2], [5, 6, 7, 8], parent=1))
        assert rig.query()["instances"][str(rig.instance)]["gpu"] == 4
        assert rig.indexer.ask("POST", "/test/resume_listener", listener)[0] == 200
        rig.wait_for(8)
    assert rig.indexer.ask("POST", "/test/pause_listener", {"instance_id": 404})[0] == 404


def test_registration_has_rules(rig: Rig) -> None:
    assert rig.register() == (201, {"status": "ok"})
    number, model = rig.instance, rig.model
    assert rig.register() == (409, {"error": f"instance {number} dp_rank 0 already registered"})
    mismatch = f"block_size mismatch for model={model} tenant=default: existing=4, requested=8"
    assert rig.register(dp_rank=1, block_size=8) == (409, {"error": mismatch})
    assert rig.register(dp_rank=1, endpoint="tcp://127.0.0.1:9", replay_endpoint=None)[0] == 201
    rows = [row for row in rig.indexer.ask("GET", "/workers")[1] if row["instance_id"] == number]
    assert rows[0]["source"] == "zmq"
    assert rows[0]["endpoints"] == {"0": rig.endpoint, "1": "tcp://127.0.0.1:9"}
    assert rows[0]["listeners"]["1"] == {"endpoint": "tcp://127.0.0.1:9", "status": "pending"}
    assert rig.unregister(dp_rank=1)[0] == 200
    assert rig.unregister(dp_rank=5)[0] == 200
    assert rig.unregister() == (200, {"status": "ok"})
    assert rig.unregister() == (404, {"error": f"instance {number} not found"})
    gone = {"error": f"no indexer for model={model} tenant=default"}
    assert rig.indexer.ask("POST", "/query", {"model_name": model, "token_ids": [1]}) == (404, gone)


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/register", {"instance_id": 1}, 422, "missing required field"),
    ("POST", "/register", "{", 400, "cannot read the request body as JSON"),
    (
        "POST",
        "/register",
        {"instance_id": 1, "endpoint": "x", "block_size": 4} | M,
        400,
        "invalid ZMQ endpoint `x`: mi",
    ),
    ("POST", "/register", {"instance_id": -1, "endpoint": "ipc://x", "block_size": 4} | M, 422, "instance_id"),
    ("POST", "/register", {"instance_id": 1, "endpoint": "ipc://x", "block_size": 0} | M, 422, "block_size"),
    ("POST", "/query_by_hash", {"block_hashes": [2**63]} | M, 422, "signed 64-bit"),
    ("POST", "/query", {"token_ids": ["a"]} | M, 422, "token_ids"),
    ("POST", "/deregister_peer", {"url": "http://127.0.0.1:1"}, 404, "peer not found"),
    ("POST", "/register_peer", {"url": "file:///etc/passwd"}, 400, "invalid peer URL"),
    ("GET", "/nothing", None, 404, "no such path"),
    ("DELETE", "/workers", None, 405, "cannot DELETE"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REFUSED)
def test_wrong_calls_are_refused(indexer: Role, method: str, path: str, body: Any, status: int, text: str) -> None:
    got, answer = indexer.ask(method, path, body)
    assert (got, set(answer)) == (status, {"error"})
    assert text in answer["error"]


def test_web_pages_are_refused(indexer: Role) -> None:
    assert indexer.ask("GET", "/workers", headers={"origin": "https://evil.example"})[0] == 403
    assert indexer.ask("GET", "/workers", headers={"host": "evil.example"})[0] == 403


def test_peers_are_kept(indexer: Role) -> None:
    url = {"url": "http://127.0.0.1:1"}
    assert indexer.ask("POST", "/register_peer", url)[0] == 201
    assert indexer.ask("GET", "/peers") == (200, [url["url"]])
    assert indexer.ask("POST", "/deregister_peer", url)[0] == 200
    assert indexer.ask("GET", "/peers") == (200, [])
    assert indexer.ask("GET", "/health") == (200, "")


def test_metrics_tell_of_calls_and_listeners(rig: Rig) -> None:
    rig.register()
    rig.indexer.ask("POST", "/query", "{")
    text = rig.indexer.ask("GET", "/metrics")[1]
    for line in (
        'dynamo_kvindexer_requests_total{endpoint="/register",method="POST"}',
        'dynamo_kvindexer_errors_total{endpoint="/query",status_class="4xx"}',
        'dynamo_kvindexer_request_duration_seconds_bucket{endpoint="/query",le="0.0001"}',
        "dynamo_kvindexer_models 1.0",
        "dynamo_kvindexer_workers 1.0",
        'dynamo_kvindexer_listeners{status="pending"} 1.0',
        'dynamo_kvindexer_listeners{status="active"} 0.0',
    ):
        assert f"\n{line}" in text


def test_a_peer_begins_with_what_another_knows(binary: str | None, rig: Rig, tmp_path: Path) -> None:
    with publisher(rig.endpoint, rig.replays) as engine:
        rig.register()
        engine.publish(stored([1, 2], list(range(1, 9))), stored([3], [9, 10, 11, 12], parent=2, medium="DISK"))
        expected = rig.wait_for(12)
        address = f"http://127.0.0.1:1,http://127.0.0.1:{rig.indexer.port}"
        with role(binary, tmp_path, "indexer", "--block-size", "4", "--port", "0", "--peers", address) as second:
            body = {"model_name": rig.model, "token_ids": list(range(1, 13))}
            assert second.ask("POST", "/query", body) == (200, expected)
            assert second.stop(signal.SIGINT) == 0


def test_workers_of_the_command_line_and_the_end(binary: str | None, tmp_path: Path) -> None:
    endpoint, replays = f"ipc://{tmp_path}/e", f"ipc://{tmp_path}/r"
    workers = f"7={endpoint},7:1=ipc://{tmp_path}/f"
    with (
        publisher(endpoint, replays) as engine,
        role(binary, tmp_path, "indexer", "--block-size", "4", "--port", "0", "--workers", workers) as one,
    ):
        row = eventually(
            lambda: next(
                (row for row in one.ask("GET", "/workers")[1] if row["listeners"]["0"]["status"] == "active"), 0
            )
        )
        assert row["status"] == "pending"  # of its worst rank

        def seen() -> bool:
            engine.publish(stored([1], [1, 2, 3, 4]))
            body = {"model_name": "default", "token_ids": [1, 2, 3, 4]}
            return bool(one.ask("POST", "/query", body)[1]["scores"] == {"7": {"0": 4}})

        eventually(seen)
        begin = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - begin < 3


def test_wrong_flags_are_one_line(binary: str | None, tmp_path: Path) -> None:
    argv = [*command(binary), "indexer", "--block-size", "4", "--port", "0", "--state-dir", str(tmp_path)]
    done = subprocess.run([*argv, "--workers", "1=nowhere"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: invalid ZMQ endpoint `nowhere`: missing scheme\n"

"""The selection service as a process: workers, choices by cache and load, reservations, probes, refusals."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appliance_process import eventually
from tests.e2e.publisher_process import publisher, stored
from tests.e2e.role_process import Role, role

TOKENS = list(range(1, 13))
HASHES = [14643705804678351452, 16777012769546811212, 483935686894639516]


@pytest.fixture(scope="module")
def router(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Role]:
    with role(binary, tmp_path_factory.mktemp("router"), "router", "--port", "0") as one:
        assert one.ask("GET", "/ready") == (503, {"ready": False})
        yield one
        assert one.stop(signal.SIGTERM) == 0


def add(router: Role, number: int, model: str, **more: Any) -> tuple[int, Any]:
    body = {"worker_id": number, "model_name": model, "endpoint": f"http://w{number}", "block_size": 4}
    return router.ask("POST", "/workers", body | more)


def loads(router: Role, model: str) -> dict[int, tuple[int, int, int]]:
    """Prefill tokens, decode blocks, requests by worker."""
    rows = router.ask("GET", "/loads")[1]
    return {
        row["worker_id"]: (row["active_prefill_tokens"], row["active_decode_blocks"], row["active_requests"])
        for row in rows
        if row["model_name"] == model
    }


def test_the_worker_with_the_prefix_is_chosen(router: Role, tmp_path: Path) -> None:
    endpoint, replays = f"ipc://{tmp_path}/e", f"ipc://{tmp_path}/r"
    with publisher(endpoint, replays) as engine:
        assert add(router, 1, "m")[0] == 201
        status, row = add(router, 2, "m", kv_events_endpoints={"0": endpoint}, replay_endpoint=replays)
        assert (status, row["worker_id"], row["routing_group"]) == (201, 2, "default")
        assert router.ask("GET", "/ready") == (200, {"ready": True})
        engine.publish(stored([1, 2, 3], TOKENS))
        wish = {"model_name": "m", "token_ids": [*TOKENS, 13]}
        scores = eventually(lambda: router.ask("POST", "/overlap_scores", wish)[1]["scores"])
        assert scores == {"2": {"0": 12}}
        by_tokens = router.ask("POST", "/select", wish | {"selection_id": "s"})
        assert by_tokens == (
            200,
            {
                "selection_id": "s",
                "worker_id": 2,
                "dp_rank": 0,
                "endpoint": "http://w2",
                "block_size": 4,
                "overlap": {"longest_matched": 12, "gpu": 12, "dp": {"0": 12}, "cpu": 12, "disk": 12},
                "effective_prefill_tokens": 1,
            },
        )
        by_hash = {"model_name": "m", "selection_id": "s", "block_hashes": HASHES, "isl_tokens": 13}
        assert router.ask("POST", "/select", by_hash) == by_tokens
        assert router.ask("POST", "/best_worker_id", wish)[1] == {"worker_id": 2, "dp_rank": 0, "overlap_blocks": 3}
        assert set(loads(router, "m").values()) == {(0, 0, 0)}
        rows = {row["worker_id"]: row for row in router.ask("POST", "/potential_loads", wish)[1]}
        assert rows[1]["potential_prefill_tokens"] == 13
        assert rows[2] == {"worker_id": 2, "dp_rank": 0, "potential_prefill_tokens": 1, "potential_decode_blocks": 3}
        assert [one["event"]["dp_rank"] for one in router.ask("GET", "/dump")[1]["m:default"]["events"]] == [0]
        assert router.ask("DELETE", "/workers/2")[0] == 200
        assert router.ask("POST", "/select", wish)[1]["worker_id"] == 1
        assert router.ask("DELETE", "/workers/1")[0] == 200
        assert router.ask("POST", "/select", wish)[0] == 404


def test_reservations_are_load_until_they_are_freed(router: Role) -> None:
    add(router, 11, "r")
    add(router, 12, "r", data_parallel_size=1)
    wish = {"model_name": "r", "token_ids": TOKENS}
    first = router.ask("POST", "/select_and_reserve", wish | {"selection_id": "a"})
    assert first[0] == 201
    chosen = first[1]["worker_id"]
    other = 23 - chosen
    assert loads(router, "r") == {chosen: (12, 3, 1), other: (0, 0, 0)}
    assert router.ask("POST", "/reservations/a/output_block", {"decay_fraction": 2})[0] == 422
    assert router.ask("POST", "/reservations/a/output_block")[0] == 200
    assert loads(router, "r")[chosen] == (12, 4, 1)
    for _ in range(2):
        assert router.ask("POST", "/reservations/a/prefill_complete")[0] == 200
    assert router.ask("POST", "/reservations/a/output_block", {"decay_fraction": 0.4})[0] == 200
    assert loads(router, "r")[chosen] == (0, 2, 1)
    reserve = {"model_name": "r", "block_hashes": [1], "isl_tokens": 6, "worker_id": other}
    assert router.ask("POST", "/reservations", reserve | {"selection_id": "b"})[0] == 201
    assert loads(router, "r")[other] == (6, 1, 1)
    assert router.ask("POST", "/reservations", reserve | {"selection_id": "b"})[0] == 409
    assert router.ask("POST", "/reservations", reserve | {"selection_id": ""})[0] == 422
    assert router.ask("POST", "/reservations", reserve | {"selection_id": "c", "worker_id": 99})[0] == 404
    for name in ("a", "b"):
        assert router.ask("DELETE", f"/reservations/{name}")[0] == 200
        assert router.ask("DELETE", f"/reservations/{name}") == (404, {"error": f"reservation {name} not found"})
    assert set(loads(router, "r").values()) == {(0, 0, 0)}
    # Without events the cache is guessed from what was placed.
    assert router.ask("POST", "/select", wish)[1]["effective_prefill_tokens"] == 0


def test_workers_can_be_changed(router: Role) -> None:
    add(router, 21, "c")
    assert add(router, 21, "c")[0] == 409
    assert add(router, 22, "c", block_size=8)[0] == 409
    assert add(router, 22, "c", kv_events_endpoints={"3": "ipc://x"})[0] == 400
    assert add(router, 22, "c", kv_events_endpoints={"0": "x"}) == (
        400,
        {"error": "invalid ZMQ endpoint `x`: missing scheme"},
    )
    status, row = router.ask("PATCH", "/workers/21", {"endpoint": "http://new", "data_parallel_size": 2})
    assert (status, row["endpoint"], row["data_parallel_size"]) == (200, "http://new", 2)
    assert router.ask("PATCH", "/workers/21", {"worker_id": 3})[0] == 422
    assert router.ask("PATCH", "/workers/404", {})[0] == 404
    wish = {"model_name": "c", "token_ids": TOKENS}
    assert [row["dp_rank"] for row in router.ask("POST", "/potential_loads", wish)[1]] == [0, 1]
    assert router.ask("POST", "/select", wish | {"allowed_worker_ids": [5]})[0] == 503
    assert router.ask("POST", "/select", wish | {"router_config_override": {"router_temperature": -1}})[0] == 422
    assert router.ask("POST", "/select", {"model_name": "c"})[0] == 422
    assert router.ask("POST", "/select", {"model_name": "c", "block_hashes": [1, 2], "isl_tokens": 7})[0] == 422
    assert [row["worker_id"] for row in router.ask("GET", "/workers")[1] if row["model_name"] == "c"] == [21]


def test_an_indexer_is_copied(binary: str | None, tmp_path: Path) -> None:
    endpoint, replays = f"ipc://{tmp_path}/e", f"ipc://{tmp_path}/r"
    workers = ["--workers", f"5={endpoint}"]
    with (
        publisher(endpoint, replays) as engine,
        role(binary, tmp_path, "indexer", "--block-size", "4", "--port", "0", *workers) as indexer,
    ):

        def seen() -> bool:
            engine.publish(stored([1, 2, 3], TOKENS))
            body = {"model_name": "default", "token_ids": TOKENS}
            return bool(indexer.ask("POST", "/query", body)[1]["scores"])

        eventually(seen)
        with role(
            binary, tmp_path, "router", "--port", "0", "--indexer-peers", f"http://127.0.0.1:{indexer.port}"
        ) as one:
            assert add(one, 5, "default", kv_events_endpoints={"0": endpoint})[0] == 201
            answer = one.ask("POST", "/select", {"model_name": "default", "token_ids": TOKENS})[1]
            assert answer["effective_prefill_tokens"] == 0
            assert one.stop(signal.SIGINT) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_replicas_see_each_others_load(binary: str | None, tmp_path: Path, router: Role) -> None:
    assert router.ask("POST", "/replica_sync/register_peer", {"url": "tcp://127.0.0.1:1"})[0] == 501
    first_port, second_port = free_port(), free_port()
    peer = f"tcp://127.0.0.1:{first_port}"
    with (
        role(binary, tmp_path, "router", "--port", "0", "--replica-sync-port", str(first_port)) as first,
        role(
            binary,
            tmp_path,
            "router",
            "--port",
            "0",
            "--replica-sync-port",
            str(second_port),
            "--replica-sync-peers",
            peer,
        ) as second,
    ):
        for one in (first, second):
            add(one, 1, "m")
        assert second.ask("GET", "/replica_sync/peers") == (200, [peer])
        wish = {"model_name": "m", "token_ids": TOKENS}

        def heard() -> bool:  # a subscription takes a moment, and what is sent before is missed
            first.ask("POST", "/select_and_reserve", wish | {"selection_id": "probe"})
            return loads(second, "m")[1][2] > 0 or not first.ask("DELETE", "/reservations/probe")

        eventually(heard)
        eventually(lambda: loads(second, "m") == loads(first, "m") == {1: (12, 3, 1)})
        first.ask("POST", "/reservations/probe/prefill_complete")
        eventually(lambda: loads(second, "m") == {1: (0, 3, 1)})
        first.ask("DELETE", "/reservations/probe")
        eventually(lambda: loads(second, "m") == {1: (0, 0, 0)})
        assert second.ask("POST", "/replica_sync/deregister_peer", {"url": peer})[0] == 200
        assert second.ask("POST", "/replica_sync/deregister_peer", {"url": peer})[0] == 404
        assert second.ask("POST", "/replica_sync/register_peer", {"url": "x"})[0] == 400

"""Where servers publish cache events, as they are told and as we reach it."""

from pathlib import Path

import pytest

from appliance.core.errors import UsageError
from appliance.engines.foreign.kv_config import choose_config, publishers_of, read_config


def test_one_rank_publishes_on_sockets_in_a_folder(tmp_path: Path) -> None:
    (one,) = publishers_of(choose_config(tmp_path, 1), ranks=1, dialect="vllm", block_size=16)
    assert (one.endpoint, one.binds, one.rank) == (f"ipc://{tmp_path}/events", True, 0)
    assert one.replay_endpoint == f"ipc://{tmp_path}/replay"


def test_ranks_have_ports_of_loopback_each(tmp_path: Path) -> None:
    found = publishers_of(choose_config(tmp_path, 3), ranks=3, dialect="vllm", block_size=16)
    ports = [int(one.endpoint.rpartition(":")[2]) for one in found]
    replays = [int((one.replay_endpoint or "").rpartition(":")[2]) for one in found]
    assert ports == [ports[0], ports[0] + 1, ports[0] + 2]
    assert len({*ports, *replays}) == 6
    assert all("127.0.0.1" in one.endpoint and not one.binds for one in found)


def test_a_users_wildcard_is_reached_on_loopback() -> None:
    config = read_config('{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557", "topic": "kv"}')
    found = publishers_of(config, ranks=2, dialect="vllm", block_size=32)
    assert [one.endpoint for one in found] == ["tcp://127.0.0.1:5557", "tcp://127.0.0.1:5558"]
    assert (found[0].binds, found[0].replay_endpoint, found[0].topic, found[0].block_size) == (True, None, "kv", 32)


def test_nothing_is_followed_where_nothing_is_published() -> None:
    assert publishers_of({"publisher": "null"}, ranks=1, dialect="sglang", block_size=16) == []
    assert publishers_of({}, ranks=1, dialect="vllm", block_size=16) == []


def test_a_configuration_that_is_no_json_object_is_refused() -> None:
    for text in ("", "[]", "{", "7"):
        with pytest.raises(UsageError, match="kv_events_config"):
            read_config(text)

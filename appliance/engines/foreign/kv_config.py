"""Where a server shall publish its cache events, and where its publishers are. Pure but for the free ports."""

import json
from pathlib import Path
from typing import Any, Literal

from appliance.core.errors import UsageError
from appliance.core.kv_publishers import KvPublisher
from appliance.engines.foreign.ports import LOOPBACK, free_ports

BUFFERED_STEPS = 10_000


def choose_config(folder: Path, ranks: int) -> dict[str, Any]:
    """Endpoints that nobody outside of this machine reaches: sockets in a folder, or ports of loopback for each rank.

    Ranks of one server count their ports up from the first, which needs TCP; and a server binds all interfaces or
    connects, so there it connects to us. Replays are always bound by the server.
    """
    if ranks == 1:
        endpoint, replay = f"ipc://{folder}/events", f"ipc://{folder}/replay"
    else:
        first = free_ports(2 * ranks)
        endpoint, replay = f"tcp://{LOOPBACK}:{first}", f"tcp://{LOOPBACK}:{first + ranks}"
    return {
        "publisher": "zmq",
        "endpoint": endpoint,
        "replay_endpoint": replay,
        "buffer_steps": BUFFERED_STEPS,
        "topic": "kv-events",
    }


def read_config(text: str) -> dict[str, Any]:
    """A configuration that the user gave. Raises `UsageError`."""
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UsageError("engine argument kv_events_config is no JSON object")
    return config


def publishers_of(
    config: dict[str, Any], *, ranks: int, dialect: Literal["vllm", "sglang"], block_size: int
) -> list[KvPublisher]:
    """One per rank; none when the configuration publishes nothing over ZMQ."""
    endpoint = config.get("endpoint") or "tcp://*:5557"
    if config.get("publisher", "zmq" if config.get("enable_kv_cache_events") else "null") != "zmq":
        return []
    binds = config.get("bind")
    if binds is None:
        binds = any(mark in endpoint for mark in ("*", "::", "ipc://", "inproc://"))
    replay = config.get("replay_endpoint")
    return [
        KvPublisher(
            endpoint=_of_rank(endpoint, rank),
            replay_endpoint=_of_rank(replay, rank) if replay else None,
            topic=config.get("topic") or "",
            binds=bool(binds),
            rank=rank,
            dialect=dialect,
            block_size=block_size,
        )
        for rank in range(ranks)
    ]


def _of_rank(endpoint: str, rank: int) -> str:
    """The endpoint as we reach it: our own host for a wildcard, and the port of the rank."""
    endpoint = endpoint.replace("*", LOOPBACK).replace("[::]", LOOPBACK).replace("0.0.0.0", LOOPBACK)
    if not endpoint.startswith("tcp://"):
        return endpoint
    host, colon, port = endpoint.rpartition(":")
    return f"{host}{colon}{int(port) + rank}" if port.isdigit() else endpoint

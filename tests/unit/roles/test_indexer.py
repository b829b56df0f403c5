"""The indexer's parts without its port: flags, registry, answers, peers' dumps."""

from typing import Any

import click
import pytest

from appliance.cli.indexer import parse_publishers
from appliance.core.errors import InvalidRequest, NotFound, UsageError
from appliance.core.kv_events import ClearedBlocks, RemovedBlocks, StoredBlocks, Tier
from appliance.events.zmq_subscriber import EventFeed, Source
from appliance.roles.indexer.bodies import InstanceScore, answer_query
from appliance.roles.indexer.peers import PeerLost, Peers, fetch_dump
from appliance.roles.indexer.registry import AlreadyRegistered, ModelKey, Registry
from appliance.roles.indexer.role import Publisher
from appliance.roles.standalone import check_open

KEY = ModelKey("m")
SOURCE = Source(endpoint="ipc://x")


class Started:
    """Stands for subscriptions: keeps the feeds."""

    def __init__(self) -> None:
        self.feeds: list[EventFeed] = []
        self.closed: list[Any] = []

    def start(self, source: Source, block_size: int, feed: EventFeed) -> Any:
        self.feeds.append(feed)
        return feed


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
def registry(started: Started) -> Registry:
    return Registry(started.start, started.closed.append)


def test_publishers_are_parsed() -> None:
    assert parse_publishers("") == ()
    assert parse_publishers("1=tcp://h:1,2:3=ipc://a=b,") == (
        Publisher(instance_id=1, rank=0, endpoint="tcp://h:1"),
        Publisher(instance_id=2, rank=3, endpoint="ipc://a=b"),
    )


@pytest.mark.parametrize("text", ["x=ipc://a", "1", "1=", "=ipc://a", "1:x=ipc://a", f"{2**64}=ipc://a", "-1=ipc://a"])
def test_what_is_no_publisher_is_said(text: str) -> None:
    with pytest.raises(click.UsageError, match="must have the form"):
        parse_publishers(text)


def test_an_open_address_needs_a_word() -> None:
    check_open("127.0.0.1", insecure=False)
    check_open("0.0.0.0", insecure=True)
    with pytest.raises(UsageError, match="--insecure-no-auth"):
        check_open("0.0.0.0", insecure=False)


def test_events_go_to_the_index_of_their_model(registry: Registry, started: Started) -> None:
    registry.register(KEY, 1, 0, SOURCE, 4)
    registry.register(KEY, 1, 1, SOURCE, 4)
    registry.register(ModelKey("m", "other"), 1, 0, SOURCE, 8)
    started.feeds[0].take([StoredBlocks([1, 2], [11, 12]), StoredBlocks([9], [9], parent=8), RemovedBlocks([7])])
    started.feeds[1].take([StoredBlocks([1], [11], tier=Tier.DISK)])
    found = answer_query(registry.find(KEY).index.find_matches([11, 12]), 4)  # type: ignore[list-item]
    assert found.scores == {"1": {"0": 8}}
    assert found.instances == {"1": InstanceScore(longest_matched=8, gpu=8, dp={"0": 8, "1": 0}, cpu=8, disk=8)}
    assert len(registry.find(ModelKey("m", "other")).index) == 0
    assert registry.applied == {
        ("stored", "ok"): 2,
        ("stored", "parent_block_not_found"): 1,
        ("removed", "block_not_found"): 1,
    }


def test_what_is_forgotten_is_one_ranks_and_what_is_cleared_the_workers(registry: Registry, started: Started) -> None:
    for rank in (0, 1):
        registry.register(KEY, 1, rank, SOURCE, 4)
        started.feeds[rank].take([StoredBlocks([1], [11])])
    index = registry.find(KEY).index
    started.feeds[0].forget()
    assert [holder.rank for holder in index.block_counts()] == [1]
    started.feeds[0].take([StoredBlocks([1], [11]), ClearedBlocks()])
    assert len(index) == 0


def test_unregistering_one_rank_leaves_the_others(registry: Registry, started: Started) -> None:
    for rank in (0, 1):
        registry.register(KEY, 1, rank, SOURCE, 4)
        started.feeds[rank].take([StoredBlocks([1], [11])])
    registry.unregister(KEY, 1, 7)
    registry.unregister(KEY, 1, 0)
    assert started.closed == [started.feeds[0]]
    assert [holder.rank for holder in registry.find(KEY).index.block_counts()] == [1]
    registry.unregister(KEY, 1, None)
    with pytest.raises(NotFound, match="no indexer for model=m tenant=default"):
        registry.find(KEY)
    with pytest.raises(NotFound, match="instance 1 not found"):
        registry.unregister(KEY, 1, None)


def test_a_refused_registration_leaves_nothing(registry: Registry, started: Started) -> None:
    registry.register(KEY, 1, 0, SOURCE, 4)
    with pytest.raises(AlreadyRegistered):
        registry.register(KEY, 1, 0, SOURCE, 4)
    with pytest.raises(AlreadyRegistered):
        registry.register(KEY, 2, 0, SOURCE, 5)
    assert len(started.feeds) == 1
    assert [instance.id for _, instance in registry.instances()] == [1]


def test_a_peer_that_is_away_is_said() -> None:
    peers = Peers(["http://127.0.0.1:1"])
    with pytest.raises(PeerLost, match=r"cannot recover from http://127\.0\.0\.1:1"):
        fetch_dump(peers.urls()[0])
    for wrong in ("127.0.0.1:1", "file:///etc/passwd", ""):
        with pytest.raises(InvalidRequest, match="invalid peer URL"):
            peers.register(wrong)

"""Places of one pool, given and taken back: load, sessions, records, what replicas are told."""

from random import Random

from appliance.core.identity import RequestId, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.block_hash import local_hashes, sequence_hashes
from appliance.routing.replica_sync import BookingAdded, BookingFreed, PrefillCompleted, ReplicaEvent
from appliance.routing.scheduler import PoolScheduler
from appliance.routing.shared import Shared
from tests.helpers.pools import MODEL, granted, request, scheduler

# Load.


def test_roles_book_differently() -> None:
    pool = scheduler("kv", {"a": {}})
    prefill = granted(pool, request(range(64), role="prefill"))
    load = pool.pool.slots[0].load
    assert (load.prefill_tokens, load.decode_blocks) == (64, 0)
    pool.on_free(prefill, 0.0)
    granted(pool, request(range(64), role="decode"))
    granted(pool, request(range(64), role="decode"))
    assert (load.prefill_tokens, load.decode_blocks) == (0, 8)


def test_asking_only_books_nothing() -> None:
    pool = scheduler("kv", {"a": {}})
    found = granted(pool, request(range(64), query_only=True))
    slot = pool.pool.slots[0]
    assert (slot.streams, slot.load.prefill_tokens, slot.load.decode_blocks, len(pool.prefixes.guessed)) == (0, 0, 0, 0)
    pool.on_free(found, 0.0)
    assert slot.streams == 0


def test_load_falls_as_prefills_are_expected_to_go_on() -> None:
    pool = scheduler("kv", {"a": {}}, prefill_load_model="aic", overlap_score_credit=0.0)
    learnt = granted(pool, request(range(100)), 0.0)
    pool.on_prefill_complete(learnt, 10.0)  # ten tokens a second
    granted(pool, request(range(200)), 10.0)
    assert pool.pool.slots[0].load.prefill_at(20.0) == 100


def test_output_counts_when_it_is_tracked() -> None:
    for tracked, count in ((True, 6), (False, 4)):
        pool = scheduler("kv", {"a": {}}, track_output_blocks=tracked)
        found = granted(pool, request(range(64)))
        pool.on_output(found, 20)
        assert pool.pool.slots[0].load.blocks_now() == count
        pool.on_free(found, 0.0)
        pool.on_output(found, 200)
        assert pool.pool.slots[0].load.blocks_now() == 0


def test_saying_things_twice_changes_nothing() -> None:
    pool = scheduler("kv", {"a": {}})
    slot = pool.pool.slots[0]
    other, found = granted(pool, request(range(32))), granted(pool, request(range(64)))
    for _ in range(2):
        pool.on_prefill_complete(found, 1.0)
        assert (slot.streams, slot.load.prefill_tokens, slot.load.decode_blocks) == (2, 32, 4)
    for _ in range(2):
        pool.on_free(found, 2.0)
        pool.on_prefill_complete(found, 2.0)
        assert (slot.streams, slot.load.prefill_tokens, slot.load.decode_blocks) == (1, 32, 2)
    pool.on_free(other, 3.0)
    assert (slot.streams, slot.load.prefill_tokens, slot.load.decode_blocks) == (0, 0, 0)


def test_replicas_hear_of_every_stream_and_not_of_mere_questions() -> None:
    told: list[ReplicaEvent] = []
    shared = Shared(settings=RouterSettings(mode="kv"), router_id="x", report=told.append)
    pool = PoolScheduler(MODEL, prefill=False, shared=shared)
    pool.add_worker(WorkerId("a"), ModelCard(name=MODEL, context_length=100, engine="mocker"), 0.0)
    pool.on_free(granted(pool, request(range(32), query_only=True)), 0.0)
    found = granted(pool, request(range(40), expected_output_tokens=7))
    pool.on_prefill_complete(found, 1.0)
    pool.on_free(found, 2.0)
    added, *rest = told
    hashes = sequence_hashes(local_hashes(range(32), 16))
    key = found.key
    assert added == BookingAdded(
        "x", key, MODEL, False, RequestId("r"), WorkerId("a"), 0, 40, 0, True, list(hashes), 0, True, 7
    )
    assert rest == [PrefillCompleted("x", key, MODEL, False), BookingFreed("x", key, MODEL, False)]


# Sessions.


def test_a_session_stays_on_its_worker() -> None:
    pool = scheduler("round-robin", {"a": {}, "b": {}, "c": {}})
    home = granted(pool, request(session_id="s", session_action="open", session_ttl_s=10.0))
    pool.on_free(home, 1.0)
    for now in (5.0, 14.0, 23.0):
        found = granted(pool, request(session_id="s"), now)
        assert found.slot is home.slot
        pool.on_free(found, now)
    closing = granted(pool, request(session_id="s", session_action="close", session_ttl_s=10.0), 24.0)
    assert closing.slot is home.slot
    pool.on_free(closing, 25.0)
    assert len(pool.pool.sessions) == 0


def test_a_session_that_failed_moves() -> None:
    pool = scheduler("round-robin", {"a": {}, "b": {}})
    home = granted(pool, request(session_id="s", session_ttl_s=10.0))
    moved = granted(pool, request(session_id="s", session_ttl_s=10.0, avoid=(home.slot.worker,)))
    assert moved.slot is not home.slot
    assert granted(pool, request(session_id="s")).slot is moved.slot
    pool.remove_worker(moved.slot.worker, 0.0)
    assert granted(pool, request(session_id="s", session_ttl_s=10.0)).slot is home.slot


# Records.


def test_a_worker_that_comes_again_unchanged_keeps_its_load() -> None:
    pool = scheduler("kv", {"a": {}})
    found = granted(pool, request(range(64)))
    card = found.slot.card
    pool.add_worker(WorkerId("a"), card, 0.0)
    assert pool.pool.slots[0].streams == 1
    pool.remove_worker(WorkerId("a"), 0.0)
    pool.add_worker(WorkerId("a"), card, 0.0)
    pool.on_free(found, 0.0)  # of the worker as it was before
    assert pool.pool.slots[0].streams == pool.pool.slots[0].load.decode_blocks == 0


def test_decisions_are_kept_within_bounds() -> None:
    shared = Shared(settings=RouterSettings(mode="kv"), source=Random(1))
    pool = PoolScheduler(MODEL, prefill=False, shared=shared)
    for number in range(40):
        pool.add_worker(WorkerId(f"w{number}"), ModelCard(name=MODEL, context_length=100, engine="mocker"), 0.0)
    for number in range(1000):
        pool.on_free(granted(pool, request(range(32), name=str(number)), float(number)), float(number))
    assert len(shared.decisions) == 800  # 32,000 rows
    assert shared.decisions.find("0") == []
    (found,) = shared.decisions.find("999")
    assert found.at == 999.0
    assert len(found.rows()) == 40
    assert next(iter(shared.decisions)).request == "999"
    assert shared.measures.kv_hit_rate.count == 1000
    assert shared.measures.total_ms.count == 63  # one of 16

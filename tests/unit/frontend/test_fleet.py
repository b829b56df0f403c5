"""Joining and leaving workers while models, links and pictures change."""

from dataclasses import dataclass, field

import msgspec
import pytest
import trio
import trio.testing

from appliance.core.identity import Digest, ModelName, WorkerId
from appliance.core.records import ModelRecord, WorkerRecord
from appliance.core.requests import FileRef, ModelCard
from appliance.core.settings import RouterSettings
from appliance.frontend.catalog import Catalog
from appliance.frontend.fleet import Fleet
from appliance.routing.router import Router
from tests.fakes.transport import FakeTransport

M = ModelName("m")
NOTES = {"a.txt": Digest("a" * 64), "b.txt": Digest("b" * 64)}


def card(name: ModelName = M, *, vocabulary: int = 10, files: dict[str, Digest] | None = None) -> ModelCard:
    """Of an embedding model, so that no tokenizer is needed."""
    refs = {file: FileRef(digest, 1) for file, digest in (files or {}).items()}
    return ModelCard(name=name, context_length=64, engine="fake", task="embed", vocab_size=vocabulary, files=refs)


@dataclass
class FollowedCaches:
    """The workers whose caches are followed, with their ranks."""

    ranks: dict[WorkerId, range] = field(default_factory=dict)

    def add(self, worker: WorkerId, ranks: range) -> None:
        assert worker not in self.ranks
        self.ranks[worker] = ranks

    def remove(self, worker: WorkerId) -> None:
        self.ranks.pop(worker, None)


@dataclass
class FrontEnd:
    nursery: trio.Nursery
    transport: FakeTransport = field(default_factory=FakeTransport)
    catalog: Catalog = field(default_factory=Catalog)
    router: Router = field(default_factory=lambda: Router(RouterSettings(mode="random")))

    caches: FollowedCaches = field(default_factory=FollowedCaches)

    def __post_init__(self) -> None:
        self.transport.files = dict.fromkeys(NOTES.values(), b"x")
        self.fleet = Fleet(self.transport, self.catalog, self.router, self.nursery, self.caches)

    def picture(self, **workers: ModelCard) -> None:
        """Take in a picture in which exactly these workers are ready."""
        cards = {WorkerId(name): card for name, card in workers.items()}
        self.transport.cards |= cards
        names = {card.name for card in cards.values()}
        self.catalog.set_records(ModelRecord(name=name, phase="ready", created=0) for name in names)
        records = [WorkerRecord(id=i, model=c.name, phase="ready", address="", card=c) for i, c in cards.items()]
        self.fleet.apply(records)

    def placeable(self) -> set[str]:
        return set(self.router.load())


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Jumps only when the threads that learn a model had time to end, too."""
    return trio.testing.MockClock(autojump_threshold=0.02)


@pytest.fixture
def front_end(nursery: trio.Nursery) -> FrontEnd:
    return FrontEnd(nursery)


async def test_a_link_that_ends_while_the_model_is_learnt_is_made_again(
    patient_clock: trio.testing.MockClock, front_end: FrontEnd
) -> None:
    front_end.picture(w=card(files=NOTES))
    await trio.sleep(1.5)
    front_end.transport.file_s = 0
    front_end.transport.linked.clear()
    front_end.fleet.on_lost(WorkerId("w"), "reset")
    await trio.sleep(10)
    assert front_end.placeable() == {"w"}
    assert front_end.transport.linked == {"w"}


async def test_a_file_dropped_with_another_model_is_fetched_again(
    patient_clock: trio.testing.MockClock, front_end: FrontEnd
) -> None:
    first = card(ModelName("first"), files={"a.txt": NOTES["a.txt"]})
    front_end.picture(v=first)
    await trio.sleep(5)
    second = card(ModelName("second"), files=NOTES)
    front_end.picture(v=first, w=second)
    await trio.sleep(0.5)
    front_end.picture(w=second)
    await trio.sleep(10)
    assert front_end.placeable() == {"w"}


async def test_workers_of_another_model_wait_until_the_name_is_free(
    patient_clock: trio.testing.MockClock, front_end: FrontEnd
) -> None:
    old, new = card(vocabulary=10), card(vocabulary=20)
    front_end.picture(v=old)
    await trio.sleep(1)
    front_end.picture(v=old, w=new)
    await trio.sleep(20)
    assert front_end.placeable() == {"v"}
    served = front_end.catalog.served(M)
    assert served is not None
    assert served.card == old
    assert front_end.transport.connects < 40
    front_end.picture(w=new)
    await trio.sleep(5)
    assert front_end.placeable() == {"w"}
    served = front_end.catalog.served(M)
    assert served is not None
    assert served.card == new


async def test_replicas_may_differ_in_what_their_devices_hold(
    patient_clock: trio.testing.MockClock, front_end: FrontEnd
) -> None:
    small = ModelCard(name=M, context_length=32, engine="fake", task="embed", vocab_size=10, total_kv_blocks=2)
    front_end.picture(v=card(), w=small)
    await trio.sleep(5)
    assert front_end.placeable() == {"v", "w"}


async def test_caches_of_workers_that_speak_of_them_are_followed_as_long_as_they_are_linked(
    patient_clock: trio.testing.MockClock, front_end: FrontEnd
) -> None:
    silent, telling = card(), msgspec.structs.replace(card(), kv_events=True, rank=2, ranks=2)
    front_end.picture(v=silent, w=telling, x=telling, y=telling)
    await trio.sleep(1)
    assert front_end.caches.ranks == dict.fromkeys(map(WorkerId, "wxy"), range(2, 4))
    front_end.transport.linked.discard(WorkerId("w"))
    front_end.fleet.on_lost(WorkerId("w"), "reset")
    front_end.fleet.on_draining(WorkerId("x"))
    assert set(front_end.caches.ranks) == {"y"}
    front_end.picture(w=telling)
    await trio.sleep(1)
    assert set(front_end.caches.ranks) == {"w"}


async def test_prefill_workers_join_a_pool_of_their_own_and_leave_the_known_card(
    front_end: FrontEnd, patient_clock: trio.testing.MockClock
) -> None:
    decode, prefill = (msgspec.structs.replace(card(), role=role) for role in ("decode", "prefill"))
    front_end.picture(p=prefill)
    await joined(front_end.router, 1, 0)
    front_end.picture(p=prefill, d=decode, q=prefill, x=msgspec.structs.replace(card(vocabulary=11), role="prefill"))
    await joined(front_end.router, 2, 1)
    await trio.sleep(20)
    assert front_end.router.prefill_workers(M) == 2, "x is of another model"
    served = front_end.catalog.served(M)
    assert served is not None
    assert served.card.role == "decode"


async def joined(router: Router, prefill: int, others: int) -> None:
    """Wait until so many workers have joined, however long their threads take."""
    for _ in range(500):
        if (router.prefill_workers(M), router.ready_workers(M)) == (prefill, others):
            return
        await trio.sleep(0.1)
    raise AssertionError(f"{router.prefill_workers(M)} prefill and {router.ready_workers(M)} other workers have joined")

"""What every `StateStore` promises, checked on SQLite and on memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.core.errors import Conflict, StateUnavailable, Unprocessable
from appliance.core.ports import StateReader, StateStore, StateWriter
from appliance.core.records import LedgerEvent, ObjectChange, StoredObject
from appliance.state.memory import MemoryStateStore
from appliance.state.sqlite import SqliteStateStore, open_store

Store = MemoryStateStore | SqliteStateStore
Opener = Callable[..., AbstractAsyncContextManager[Store]]


class Clock:
    """A wall clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Opener:
    @asynccontextmanager
    async def open_any(buffer: int = 16, event_rows: int = 5) -> AsyncIterator[Store]:
        if request.param == "sqlite":
            async with open_store(tmp_path / "state.db", buffer=buffer, event_rows=event_rows, clock=clock) as store:
                yield store
        else:
            memory = MemoryStateStore(buffer=buffer, event_rows=event_rows, clock=clock)
            yield memory
            memory.close()

    return open_any


def thing(name: str = "a", version: int = 0, kind: str = "Thing", **spec: object) -> StoredObject:
    return StoredObject(kind=kind, name=name, spec=dict(spec), api_version="v1", resource_version=version)


async def put(store: StateStore, obj: StoredObject) -> StoredObject:
    return await store.write(lambda state: state.put(obj))


async def record(store: StateStore, event: LedgerEvent) -> None:
    await store.write(lambda state: state.record(event))


async def get(store: StateStore, name: str = "a") -> StoredObject | None:
    return await store.read(lambda state: state.get("Thing", name))


async def test_first_put_gives_generation_version_and_time(opener: Opener) -> None:
    async with opener() as store:
        made = await put(store, thing(size=1))
        assert (made.generation, made.resource_version, made.created_at) == (1, 1, 1000.0)
        assert await get(store) == made


async def test_missing_object_reads_as_none(opener: Opener) -> None:
    async with opener() as store:
        assert await get(store) is None


async def test_spec_change_raises_generation_metadata_change_does_not(opener: Opener, clock: Clock) -> None:
    async with opener() as store:
        await put(store, thing(size=1))
        clock.now = 2000.0
        resized = await put(store, thing(size=2))
        labelled = await put(
            store, StoredObject(kind="Thing", name="a", spec={"size": 2}, api_version="v1", metadata={"labels": {}})
        )
        assert (resized.generation, labelled.generation) == (2, 2)
        assert (resized.resource_version, labelled.resource_version) == (2, 3)
        assert labelled.created_at == 1000.0


async def test_unchanged_put_makes_no_version_and_no_change(opener: Opener) -> None:
    async with opener() as store, store.watch("Thing") as changes:
        first = await put(store, thing(size=1))
        again = await put(store, thing(size=1))
        assert again == first
        await put(store, thing(size=True))
        assert [(await changes.receive()).object.spec for _ in range(2)] == [{"size": 1}, {"size": True}]


async def test_members_keep_their_order_and_another_order_is_no_change(opener: Opener) -> None:
    async with opener() as store:
        first = await put(store, thing(z=1, a=2))
        again = await put(store, thing(a=2, z=1))
        assert again.resource_version == first.resource_version
        kept = await get(store)
        assert kept is not None
        assert list(kept.spec) == ["z", "a"]


async def test_put_on_an_old_version_conflicts_and_writes_nothing(opener: Opener) -> None:
    async with opener() as store:
        first = await put(store, thing(size=1))
        second = await put(store, thing(size=2, version=first.resource_version))
        with pytest.raises(Conflict, match=r"cannot write Thing a: based on version 1, but version 2 is stored"):
            await put(store, thing(size=3, version=first.resource_version))
        assert await get(store) == second


async def test_put_with_a_version_onto_nothing_conflicts(opener: Opener) -> None:
    async with opener() as store:
        with pytest.raises(Conflict, match="it is not stored"):
            await put(store, thing(version=7))


@pytest.mark.parametrize("bad", [thing(name=""), thing(kind=""), thing(size=object())])
async def test_object_that_cannot_be_stored_is_refused(opener: Opener, bad: StoredObject) -> None:
    async with opener() as store:
        with pytest.raises(Unprocessable, match="cannot store"):
            await put(store, bad)


async def test_status_survives_put_and_put_survives_status(opener: Opener) -> None:
    async with opener() as store:
        await put(store, thing(size=1))
        with_status = await store.write(lambda state: state.put_status("Thing", "a", {"state": "ok"}))
        assert with_status is not None
        assert (with_status.generation, with_status.resource_version) == (1, 2)
        resized = await put(store, thing(size=2))
        assert (resized.status, resized.spec) == ({"state": "ok"}, {"size": 2})


async def test_same_status_makes_no_version_and_status_of_nothing_is_none(opener: Opener) -> None:
    async with opener() as store:
        await put(store, thing())
        one = await store.write(lambda state: state.put_status("Thing", "a", {"n": 1}))
        two = await store.write(lambda state: state.put_status("Thing", "a", {"n": 1}))
        assert one == two
        assert await store.write(lambda state: state.put_status("Thing", "gone", {"n": 1})) is None


async def test_delete_returns_what_was_there_and_versions_go_on(opener: Opener) -> None:
    async with opener() as store:
        first = await put(store, thing(size=1))
        assert await store.write(lambda state: state.delete("Thing", "a")) == first
        assert await store.write(lambda state: state.delete("Thing", "a")) is None
        reborn = await put(store, thing(size=1))
        assert reborn.generation == 1
        assert reborn.resource_version > first.resource_version + 1, "the deletion has a version of its own"


async def test_list_is_by_kind_and_sorted(opener: Opener) -> None:
    async with opener() as store:
        for obj in (thing("b"), thing("a"), thing("c", kind="Other")):
            await put(store, obj)
        assert [obj.name for obj in await store.read(lambda state: state.list_all("Thing"))] == ["a", "b"]


async def test_failed_write_leaves_nothing_behind(opener: Opener) -> None:
    def change(state: StateWriter) -> None:
        state.put(thing("half"))
        state.record(LedgerEvent(subject="s", action="apply", reason="r"))
        raise KeyError("stop")

    async with opener() as store, store.watch("Thing") as changes:
        with pytest.raises(KeyError):
            await store.write(change)
        assert await get(store, "half") is None
        assert await store.read(lambda state: state.events()) == []
        made = await put(store, thing("whole"))
        assert made.resource_version == 1
        assert await changes.receive() == ObjectChange("ADDED", made)


async def test_errors_of_functions_are_raised_as_they_are(opener: Opener) -> None:
    def fail(state: StateReader) -> None:
        raise OSError("mine")

    async with opener() as store:
        for call in (store.read, store.write):
            with pytest.raises(OSError, match="mine"):
                await call(fail)


async def test_writer_sees_its_own_changes(opener: Opener) -> None:
    def change(state: StateWriter) -> list[str]:
        state.put(thing("a"))
        state.put(thing("b"))
        state.delete("Thing", "a")
        return [obj.name for obj in state.list_all("Thing")]

    async with opener() as store:
        assert await store.write(change) == ["b"]


async def test_what_callers_do_to_their_dicts_stays_with_them(opener: Opener) -> None:
    spec: dict[str, object] = {"list": [1]}
    async with opener() as store, store.watch("Thing") as changes:
        made = await put(store, StoredObject(kind="Thing", name="a", spec=spec))
        spec["list"] = "changed"
        made.spec["list"].append(2)
        assert (await changes.receive()).object.spec == {"list": [1]}
        kept = await get(store)
        assert kept is not None
        assert kept.spec == {"list": [1]}


async def test_ledger_gives_newest_first_by_subject_and_prefix(opener: Opener, clock: Clock) -> None:
    async with opener(event_rows=10) as store:
        for subject in ("worker/a", "worker/b", "workers", "model/m", "worker/a"):
            await record(store, LedgerEvent(subject=subject, action="start", reason="r"))

        async def subjects(wanted: str | None, limit: int = 100) -> list[str]:
            return [event.subject for event in await store.read(lambda state: state.events(wanted, limit))]

        assert await subjects("worker/a") == ["worker/a", "worker/a"]
        assert await subjects("worker/") == ["worker/a", "worker/b", "worker/a"]
        assert await subjects(None, 2) == ["worker/a", "model/m"]
        assert await subjects(None, 0) == []


async def test_ledger_keeps_inputs_time_and_a_bounded_number_of_rows(opener: Opener) -> None:
    async with opener(event_rows=3) as store:
        for n in range(7):
            event = LedgerEvent(subject="s", action="scale", reason="r", inputs={"n": n}, at=5.0 if n == 6 else 0.0)
            await record(store, event)
        events = await store.read(lambda state: state.events())
        assert [(event.id, event.inputs["n"], event.at) for event in events] == [
            (7, 6, 5.0),
            (6, 5, 1000.0),
            (5, 4, 1000.0),
        ]


async def test_watch_starts_with_what_is_there_and_follows_commits_in_order(opener: Opener) -> None:
    def change(state: StateWriter) -> None:
        state.put(thing("a", size=2))
        state.put(thing("c"))
        state.delete("Thing", "c")

    async with opener() as store:
        for name in ("b", "a"):
            await put(store, thing(name))
        async with store.watch("Thing") as changes:
            await store.write(change)
            await put(store, thing("z", kind="Other"))
            await store.write(lambda state: state.put_status("Thing", "b", {"n": 1}))
            seen = [await changes.receive() for _ in range(6)]
            assert [(item.type, item.object.name) for item in seen] == [
                ("ADDED", "a"),
                ("ADDED", "b"),
                ("MODIFIED", "a"),
                ("ADDED", "c"),
                ("DELETED", "c"),
                ("MODIFIED", "b"),
            ]
            versions = [item.object.resource_version for item in seen[2:]]
            assert versions == [3, 4, 5, 7]


async def test_slow_watcher_is_closed_and_others_go_on(opener: Opener) -> None:
    async with opener(buffer=2) as store, store.watch("Thing") as slow, store.watch("Thing") as quick:
        for n in range(4):
            await put(store, thing(size=n))
            assert (await quick.receive()).object.spec == {"size": n}
        assert [change.object.spec["size"] async for change in slow] == [0, 1]


async def test_watchers_of_concurrent_writes_see_versions_in_order(opener: Opener) -> None:
    async with opener(buffer=64) as store, store.watch("Thing") as changes:
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(put, store, thing(f"t{n}"))
        versions = [(await changes.receive()).object.resource_version for _ in range(20)]
        assert versions == list(range(1, 21))


async def test_no_change_falls_between_list_and_watch(opener: Opener) -> None:
    async def write_all(store: StateStore) -> None:
        for n in range(20):
            await put(store, thing(f"t{n:02}"))

    async with opener(buffer=64) as store, trio.open_nursery() as nursery:
        nursery.start_soon(write_all, store)
        for _ in range(5):
            async with store.watch("Thing") as changes:
                seen: list[str] = []
                while not seen or seen[-1] != "t19":
                    seen.append((await changes.receive()).object.name)
                assert seen == [f"t{n:02}" for n in range(20)]


async def test_closed_store_ends_watches_and_refuses_calls(opener: Opener) -> None:
    async with opener() as store:
        async with store.watch("Thing") as changes:
            outcome = store.close()
            if outcome is not None:
                await outcome
            with pytest.raises(trio.EndOfChannel):
                await changes.receive()
        for call in (store.read, store.write):
            with pytest.raises(StateUnavailable, match="closed"):
                await call(lambda state: state.list_all("Thing"))
        with pytest.raises(StateUnavailable, match="closed"):
            async with store.watch("Thing"):
                pass


async def test_cancelled_calls_are_whole_or_absent_and_the_store_lives_on(opener: Opener) -> None:
    def pair(state: StateWriter) -> None:
        for name in ("left", "right"):
            state.put(thing(name, n=state.get("Thing", "left") is None))
            state.put(thing(name, n=attempt))

    async def everything(store: StateStore) -> None:
        await store.write(pair)
        await store.read(lambda state: state.list_all("Thing"))
        async with store.watch("Thing") as changes:
            await changes.receive()

    async with opener(buffer=64) as store:
        for attempt in range(12):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(everything, store)
                    for _ in range(attempt):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            found = await store.read(lambda state: state.list_all("Thing"))
            assert len({obj.spec["n"] for obj in found}) <= 1
            assert len(found) in (0, 2)
        await put(store, thing("after"))

"""Both stores against a naive model: a dict of documents with counters."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.errors import Conflict
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import StoredObject
from appliance.state.memory import MemoryStateStore
from appliance.state.sqlite import open_store

names = st.sampled_from(["a", "b", "c"])
specs = st.dictionaries(
    st.text(max_size=3),
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    max_size=2,
)
operations = st.one_of(
    st.tuples(st.just("put"), names, specs),
    st.tuples(st.just("put_stale"), names, specs),
    st.tuples(st.just("put_based"), names, specs),
    st.tuples(st.just("status"), names, specs),
    st.tuples(st.just("delete"), names, specs),
)
transactions = st.lists(st.tuples(st.lists(operations, max_size=4), st.booleans()), max_size=8)


def text(value: Any) -> str:
    """JSON that is equal for equal documents, and tells true from 1 and 1 from 1.0."""
    return json.dumps(value, sort_keys=True)


class RolledBack(Exception):
    """Thrown by a test's transaction to undo it."""


@dataclass
class Model:
    """What a store should hold: name -> (spec, status, generation, version)."""

    rows: dict[str, tuple[Any, Any, int, int]] = field(default_factory=dict)
    version: int = 0

    def run(self, operation: str, name: str, value: dict[str, Any]) -> None:
        spec, status, generation, _ = self.rows.get(name, (None, {}, 0, 0))
        if operation.startswith("put") and operation != "put_stale" and text(value) != text(spec):
            self.version += 1
            self.rows[name] = (value, status, generation + 1, self.version)
        elif operation == "status" and name in self.rows and text(value) != text(status):
            self.version += 1
            self.rows[name] = (spec, value, generation, self.version)
        elif operation == "delete" and name in self.rows:
            self.version += 1
            del self.rows[name]


def apply(state: StateWriter, operation: str, name: str, value: dict[str, Any]) -> None:
    stored = state.get("Thing", name)
    version = stored.resource_version if stored else 0
    if operation == "put_stale":
        try:
            state.put(StoredObject(kind="Thing", name=name, spec=value, resource_version=version + 1))
        except Conflict:
            return
        raise AssertionError("a stale put was taken")
    if operation in ("put", "put_based"):
        base = version if operation == "put_based" else 0
        state.put(StoredObject(kind="Thing", name=name, spec=value, resource_version=base))
    elif operation == "status":
        state.put_status("Thing", name, dict(value))
    else:
        state.delete("Thing", name)


async def compare(store: StateStore, history: list[tuple[list[tuple[str, str, dict[str, Any]]], bool]]) -> None:
    model = Model()
    watched: dict[str, StoredObject] = {}
    async with store.watch("Thing") as changes:
        for steps, undone in history:
            draft = Model(dict(model.rows), model.version)

            def change(state: StateWriter, steps: Any = steps, undone: bool = undone) -> None:
                for step in steps:
                    apply(state, *step)
                if undone:
                    raise RolledBack

            try:
                await store.write(change)
            except RolledBack:
                continue
            for step in steps:
                draft.run(*step)
            model = draft
        found = await store.read(lambda state: state.list_all("Thing"))
        seen = {obj.name: (obj.spec, obj.status, obj.generation, obj.resource_version) for obj in found}
        assert text(seen) == text(model.rows)
        for _ in range(changes.statistics().current_buffer_used):
            change_seen = changes.receive_nowait()
            watched[change_seen.object.name] = change_seen.object
            if change_seen.type == "DELETED":
                del watched[change_seen.object.name]
        assert sorted(watched.items()) == [(obj.name, obj) for obj in found]


@given(transactions)
@settings(max_examples=100, deadline=None)
def test_memory_is_the_model(history: Any) -> None:
    trio.run(compare, MemoryStateStore(), history)


@given(transactions)
@settings(max_examples=40, deadline=None)
def test_sqlite_is_the_model(history: Any) -> None:
    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with open_store(Path(folder) / "state.db") as store:
                await compare(store, history)

    trio.run(run)

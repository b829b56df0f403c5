"""Stored objects behind the admin API: list, read, apply, delete, scale. Every change is checked and in the ledger."""

from typing import Any

from appliance.core.errors import NotFound, UsageError
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import LedgerEvent, StoredObject
from appliance.graph.admission import admit_graph
from appliance.graph.documents import document_of, scale_component
from appliance.graph.kinds import DGD, resolve_kind

Object = dict[str, Any]


class ObjectStoreAdmin:
    """`ObjectAdmin` over the state store; a document in an answer may have `warnings` beside its spec."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    async def list_objects(self, kind: str) -> list[Object]:
        canonical = resolve_kind(kind).kind
        return [document_of(obj) for obj in await self._store.read(lambda reader: reader.list_all(canonical))]

    async def read_object(self, kind: str, name: str) -> Object:
        canonical = resolve_kind(kind).kind
        found = await self._store.read(lambda reader: reader.get(canonical, name))
        if found is None:
            raise NotFound(f"no {canonical} is called {name!r}")
        return document_of(found)

    async def apply_objects(self, manifests: list[Object]) -> list[Object]:
        return await self._store.write(lambda writer: [apply_graph(writer, one) for one in manifests])

    async def delete_object(self, kind: str, name: str) -> Object:
        canonical = resolve_kind(kind).kind

        def delete(writer: StateWriter) -> Object:
            removed = writer.delete(canonical, name)
            if removed is None:
                raise NotFound(f"no {canonical} is called {name!r}")
            writer.record(LedgerEvent(subject=f"dgd/{name}", action="delete", reason="asked for by a user"))
            return document_of(removed)

        return await self._store.write(delete)

    async def scale(self, component: str, replicas: int, graph: str | None) -> Object:
        def change(writer: StateWriter) -> Object:
            owner = find_owner(writer.list_all(DGD), component, graph)
            scaled = scale_component(document_of(owner), component, replicas)
            return apply_graph(writer, scaled, action="scale", inputs={"component": component, "replicas": replicas})

        return await self._store.write(change)


def apply_graph(
    writer: StateWriter, document: Object, *, action: str = "apply", inputs: Object | None = None, replace: bool = False
) -> Object:
    """Check and put one graph inside a transaction. `replace`: as if the old one had been deleted before."""
    name = str((document.get("metadata") or {}).get("name", ""))
    stored = None if replace else writer.get(DGD, name)
    admitted, problems = admit_graph(document, stored)
    put = writer.put(admitted)
    if stored is None or put.generation != stored.generation:
        event = LedgerEvent(
            subject=f"dgd/{put.name}",
            action=action,
            reason="asked for by a user",
            inputs={"generation": put.generation, **(inputs or {})},
        )
        writer.record(event)
    shown = document_of(put)
    if problems:
        shown["warnings"] = [str(problem) for problem in problems]
    return shown


def find_owner(graphs: list[StoredObject], component: str, graph: str | None) -> StoredObject:
    """The graph with that component; `graph` is needed when several have one."""
    named = [one for one in graphs if graph in (None, one.name)]
    if graph is not None and not named:
        raise NotFound(f"no graph is called {graph!r}")
    owners = [one for one in named if component in _component_names(one)]
    if not owners:  # names are unique without regard to case within a graph, so this can only mean one there
        owners = [one for one in named if component.lower() in map(str.lower, _component_names(one))]
    if not owners:
        known = ", ".join(sorted({name for one in named for name in _component_names(one)})) or "none"
        raise NotFound(f"no graph has a component {component!r}; components: {known}")
    if len(owners) > 1:
        where = ", ".join(one.name for one in owners)
        raise UsageError(f"several graphs have a component {component!r} ({where}); say which one with --graph")
    return owners[0]


def _component_names(graph: StoredObject) -> list[str]:
    return [str(one.get("name", "")) for one in graph.spec.get("components", [])]

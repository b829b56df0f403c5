"""Restarts of all processes of a component, one after the other: a user asks for them, or settings have changed."""

from collections.abc import Callable
from typing import Any

from appliance.core.errors import Conflict
from appliance.core.records import LedgerEvent
from appliance.graph.documents import document_of
from appliance.graph.schema import read_graph
from appliance.roles.node.board import Board
from appliance.roles.node.desired import FRONTEND, OWN_GRAPH, DesiredState
from appliance.roles.node.objects import find_owner


class Restarts:
    """Finds what is meant, has it replaced, and writes that down."""

    def __init__(self, desired: DesiredState, board: Board, note: Callable[[LedgerEvent], None]) -> None:
        self._desired, self._board, self._note = desired, board, note

    def restart(self, component: str, graph: str | None, reason: str = "asked for by a user") -> dict[str, Any]:
        """Begin to replace the processes of a component; their ids. Raises `NotFound`, `UsageError`, `Conflict`."""
        owner, name = self._find(component, graph)
        views = [*self._board.front_ends(), *self._board.workers()]
        old = [view.id for view in views if (view.instance.graph, view.instance.component) == (owner, name)]
        replicas = self._desired.restart(owner, name)
        if not replicas:
            raise Conflict(f"{name} has no process to restart: it is scaled to 0")
        subject = "appliance" if owner == OWN_GRAPH else f"dgd/{owner}"
        inputs = {"component": name, "processes": old}
        self._note(LedgerEvent(subject=subject, action="restart", reason=reason, inputs=inputs))
        return {"graph": owner, "component": name, "replicas": replicas, "processes": old}

    def _find(self, component: str, graph: str | None) -> tuple[str, str]:
        """Graph and component; front ends are shared, whichever graph's they are called."""
        if component.lower() == FRONTEND and graph in (None, OWN_GRAPH):
            return OWN_GRAPH, FRONTEND
        owner = find_owner([*self._desired.graphs.values()], component, graph)
        parsed, _ = read_graph(document_of(owner))
        found = next(one for one in parsed.spec.components if one.name.lower() == component.lower())
        return (OWN_GRAPH, FRONTEND) if found.type == FRONTEND else (owner.name, found.name)

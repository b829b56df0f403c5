"""How a component's model shares memory with others: annotations of its pod template, which clusters pass over."""

import math

from appliance.core.instances import ResidenceWish
from appliance.graph.problem import Problem, nearest
from appliance.graph.schema import Component

PREFIX = "dynamo-appliance/"
PINNED, IDLE_S, GROUPS = f"{PREFIX}pinned", f"{PREFIX}idle-s", f"{PREFIX}exclusive-group"
KNOWN = (PINNED, IDLE_S, GROUPS)
"""`"true"` or `"false"`; seconds as text; names with commas between them."""


def read_residence(component: Component, path: str) -> tuple[ResidenceWish, list[Problem]]:
    """What the annotations say; `path` is the component's, for problems."""
    notes, at = component.annotations, f"{path}.podTemplate.metadata.annotations"
    problems = [
        Problem(f"{at}[{name}]", f"is no known annotation; {nearest(name, KNOWN)}")
        for name in notes
        if name.startswith(PREFIX) and name not in KNOWN
    ]
    pinned = notes.get(PINNED, "false")
    if pinned not in ("true", "false"):
        problems.append(Problem(f"{at}[{PINNED}]", f'must be "true" or "false", not {pinned!r}'))
    idle_s = _seconds(notes.get(IDLE_S))
    if idle_s is not None and not 0 <= idle_s < math.inf:
        problems.append(Problem(f"{at}[{IDLE_S}]", f"must be a number of seconds, not {notes[IDLE_S]!r}"))
    groups = frozenset(name for word in notes.get(GROUPS, "").split(",") if (name := word.strip()))
    return ResidenceWish(pinned=pinned == "true", idle_s=idle_s, groups=groups), problems


def _seconds(text: str | None) -> float | None:
    """NaN for what is no number."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return math.nan

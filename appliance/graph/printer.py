"""Rows of the `get` table for graphs, with the columns that kubectl prints."""

from typing import Any

from appliance.core.records import StoredObject

UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
ABSENT = "<none>"


def printer_header(wide: bool = False) -> list[str]:
    """Column names of `printer_row`."""
    return ["NAME", "READY", "BACKEND", "AGE", *(["STATE", "COMPONENTS"] if wide else [])]


def printer_row(obj: StoredObject, now: float, wide: bool = False) -> list[str]:
    """One graph as texts; `now` in unix seconds. Wide adds the state and ready/wanted replicas by component."""
    ready = next((one.get("status", "") for one in obj.status.get("conditions", []) if one.get("type") == "Ready"), "")
    row = [obj.name, ready or ABSENT, obj.spec.get("backendFramework") or ABSENT, format_age(now - obj.created_at)]
    if not wide:
        return row
    counts = obj.status.get("components", {})
    parts = [_replicas(item, counts.get(item["name"], {})) for item in obj.spec.get("components", [])]
    return [*row, obj.status.get("state", "initializing"), ",".join(parts) or ABSENT]


def _replicas(component: dict[str, Any], counts: dict[str, Any]) -> str:
    asleep = counts.get("sleepingReplicas", 0)
    ready = f"{component['name']}={counts.get('readyReplicas', 0)}/{component.get('replicas', 1)}"
    return f"{ready} ({asleep} sleeping)" if asleep else ready


def format_age(seconds: float) -> str:
    """Largest unit, and the next one too while the number is small: `42s`, `5m10s`, `3h`, `2d4h`."""
    left = max(int(seconds), 0)
    for at, (size, unit) in enumerate(UNITS):
        if left >= size or unit == "s":
            count, rest = divmod(left, size)
            text = f"{count}{unit}"
            if count < 10 and at + 1 < len(UNITS):
                smaller, smaller_unit = UNITS[at + 1]
                text += f"{rest // smaller}{smaller_unit}" if rest // smaller else ""
            return text
    return "0s"

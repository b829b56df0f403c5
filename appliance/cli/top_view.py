"""What `top` shows: two samples of the status become one frame, and a frame a picture that fits the terminal. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.cli.output import COLOURS
from appliance.graph.printer import format_age

if TYPE_CHECKING:
    from rich.console import RenderableType

Status = dict[str, Any]
GAP = 2  # between columns
FIXED_LINES = 2  # headline and rates
TABLE_LINES = 2  # an empty line and the header
PROCESS_STATE = ("id", "component", "model", "phase", "since", "state", "state_since")
LEAST_NAME = 8  # what the first column keeps on a narrow terminal


@dataclass(frozen=True)
class Sample:
    """A status and when it was taken, in seconds of a clock that only goes forward."""

    status: Status
    at: float


def frame(before: Sample, now: Sample) -> dict[str, Any]:
    """The facts of one picture, as `top --json` prints them. Rates are per second between the two samples."""
    status, span = now.status, max(now.at - before.at, 1e-6)
    totals, earlier = status.get("totals", {}), before.status.get("totals", {})
    running = status["requests"]
    placed = Counter(one["workers"][-1] for one in running if one.get("workers"))
    cpu_before = {one["id"]: one.get("cpu_s") for one in [*before.status["frontends"], *before.status["workers"]]}

    def rate(name: str) -> float:  # a front end that started again counts from zero
        return max(0.0, float(totals.get(name, 0)) - float(earlier.get(name, 0))) / span

    def process(one: Status) -> Status:
        cpu, last = one.get("cpu_s"), cpu_before.get(one["id"])
        percent = None if cpu is None or last is None else max(0.0, cpu - last) / span * 100
        told = {name: one.get(name) for name in (*PROCESS_STATE, "pid", "restarts", "memory_bytes", "reason")}
        return told | {"cpu_percent": percent, "running": placed[one["id"]]}

    return {
        "url": status["url"],
        "state": "draining" if status["draining"] else "ready" if status["ready"] else "starting",
        "uptime_s": status.get("uptime_s", 0.0),
        "requests": {
            "running": status["active_requests"],
            "waiting": int(totals.get("queued", 0)),
            "per_s": rate("requests"),
            "failed_per_s": rate("failed"),
            "output_tokens_per_s": rate("output_tokens"),
        },
        "models": [_model(one, running) for one in status["models"]],
        "workers": [process(one) for one in status["workers"]],
        "frontends": [process(one) for one in status["frontends"]],
        "gpus": list(status.get("gpus") or ()),
    }


def _model(one: Status, requests: Sequence[Status]) -> Status:
    own = [request for request in requests if request.get("model") == one["name"]]
    waiting = sum(1 for request in own if not request.get("workers"))
    return {name: one.get(name) for name in ("name", "phase", "reason")} | {
        "running": len(own) - waiting,
        "waiting": waiting,
    }


@dataclass(frozen=True)
class Column:
    """One column of a table: its text of a row. Columns of higher `spare` go first when there is no room."""

    title: str
    text: Callable[[Status], str]
    spare: int = 0
    right: bool = False


PROCESS = (
    Column("ID", lambda one: str(one["id"])),
    Column("STATE", lambda one: str(one.get("state") or one["phase"])),
    Column("RUN", lambda one: str(one["running"]), 1, right=True),
    Column("CPU%", lambda one: "-" if one["cpu_percent"] is None else f"{one['cpu_percent']:.0f}", 3, right=True),
    Column("MEMORY", lambda one: size(one["memory_bytes"]), 2, right=True),
    Column("RESTARTS", lambda one: str(one["restarts"]), 5, right=True),
    Column("PID", lambda one: str(one["pid"] or "-"), 6, right=True),
    Column("MODEL", lambda one: str(one["model"] or "-"), 4),
)
MODEL = (
    Column("MODEL", lambda one: str(one["name"])),
    Column("STATE", lambda one: str(one["phase"])),
    Column("RUN", lambda one: str(one["running"]), 1, right=True),
    Column("WAIT", lambda one: str(one["waiting"]), 2, right=True),
    Column("REASON", lambda one: str(one["reason"] or ""), 3),
)
GPU = (
    Column("GPU", lambda one: str(one.get("index", "-"))),
    Column("NAME", lambda one: str(one.get("name", "-")), 3),
    Column("UTIL%", lambda one: _or_dash(one.get("utilisation")), 1, right=True),
    Column("USED", lambda one: size(one.get("memory_used")), right=True),
    Column("TOTAL", lambda one: size(one.get("memory_total")), 2, right=True),
    Column("POWER W", lambda one: _or_dash(one.get("power_w")), 5, right=True),
    Column("TEMP C", lambda one: _or_dash(one.get("temperature_c")), 4, right=True),
)


def render(facts: dict[str, Any], width: int, height: int | None) -> "RenderableType":
    """The picture, at most `width` columns and `height` lines; None: as many lines as it needs."""
    from rich.console import Group
    from rich.text import Text

    requests = facts["requests"]
    head = Text(f"{facts['url']}  ", no_wrap=True, overflow="ellipsis")
    head.append(facts["state"], COLOURS.get(facts["state"], ""))
    head.append(f"  up {format_age(facts['uptime_s'])}")
    rates = Text(
        f"{requests['running']} running, {requests['waiting']} waiting  {requests['per_s']:.1f} requests/s  "
        f"{requests['output_tokens_per_s']:.0f} tokens/s  {requests['failed_per_s']:.1f} errors/s",
        no_wrap=True,
        overflow="ellipsis",
    )
    tables = {"models": MODEL, "workers": PROCESS, "frontends": PROCESS, "gpus": GPU}
    shown = [(columns, facts[name]) for name, columns in tables.items() if facts[name]]
    needs = [len(rows) + TABLE_LINES for _, rows in shown]
    parts: list[RenderableType] = [head, rates]
    for (columns, rows), lines in zip(shown, shares(needs, height and height - FIXED_LINES), strict=True):
        if lines > TABLE_LINES:
            parts += _table(columns, rows, width, lines - TABLE_LINES)
    return Group(*parts)


def shares(needs: Sequence[int], room: int | None) -> list[int]:
    """Lines for each table: the small ones get what they need, the large ones share the rest."""
    if room is None:
        return list(needs)
    given = [0] * len(needs)
    for rank, at in enumerate(sorted(range(len(needs)), key=lambda at: needs[at])):
        given[at] = min(needs[at], (room - sum(given)) // (len(needs) - rank))
    return given


def _table(columns: Sequence[Column], rows: Sequence[Status], width: int, most: int) -> "list[RenderableType]":
    """An empty line, the header and at most so many rows, one line each; the last one counts what has no room."""
    from rich.text import Text

    cells = {column.title: [column.title, *(column.text(row) for row in rows)] for column in columns}
    widths = {title: max(map(len, column)) for title, column in cells.items()}
    kept = fitting(columns, widths, width)
    widths = _squeezed([column.title for column in kept], widths, width)
    shown = len(rows) if len(rows) <= most else most - 1
    lines: list[RenderableType] = [Text("")]
    for at in range(shown + 1):
        line = Text(no_wrap=True, overflow="crop", style="bold" if at == 0 else "")
        for column in kept:
            text = _cut(cells[column.title][at], widths[column.title])
            padded = text.rjust(widths[column.title]) if column.right else text.ljust(widths[column.title])
            line.append(padded, COLOURS.get(text, "") if at else "")
            line.append(" " * GAP)
        line.rstrip()
        lines.append(line)
    if shown < len(rows):
        lines.append(Text(f"and {len(rows) - shown} more", "dim"))
    return lines


def fitting(columns: Sequence[Column], widths: dict[str, int], room: int) -> list[Column]:
    """The columns that have room, the most dispensable ones left out."""
    kept = list(columns)
    while len(kept) > 1 and sum(widths[one.title] + GAP for one in kept) - GAP > room:
        most = max(kept, key=lambda one: one.spare)
        if most.spare == 0:
            break
        kept.remove(most)
    return kept


def _squeezed(titles: Sequence[str], widths: dict[str, int], room: int) -> dict[str, int]:
    """Widths with the first column cut to what the others leave."""
    others = sum(widths[title] + GAP for title in titles[1:])
    return widths | {titles[0]: min(widths[titles[0]], max(LEAST_NAME, room - others))}


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def size(count: float | None) -> str:
    """Bytes in three figures: `512 B`, `3.4 GB`."""
    if count is None:
        return "-"
    value, units = float(count), ("B", "KB", "MB", "GB", "TB")
    at = 0
    while value >= 999.5 and at + 1 < len(units):
        value, at = value / 1000, at + 1
    return f"{value:.1f} {units[at]}" if at and value < 99.95 else f"{value:.0f} {units[at]}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"

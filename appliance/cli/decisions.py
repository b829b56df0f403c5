"""The placements of a request as tables: who could have served it, at what cost, and who did."""

from datetime import datetime
from typing import Any

import click

from appliance.cli.output import print_heading, print_table

CHOSEN, FREE, LEFT_OUT = "chosen", "", "left out"


def print_decisions(found: dict[str, Any]) -> None:
    """What front ends remember of requests: each, and its placements, oldest first."""
    ended = {request["id"]: request for request in found["requests"]}
    placements = found["placements"]
    known = list(dict.fromkeys([one["request"] for one in placements] + list(ended)))
    for position, name in enumerate(known):
        if position:
            click.echo()
        click.echo(_request_line(ended[name]) if name in ended else f"request {name}")
        for placement in placements:
            if placement["request"] == name:
                click.echo()
                print_heading(_what(placement))
                click.echo(_outcome(placement))
                _print_candidates(placement)


def _request_line(one: dict[str, Any]) -> str:
    parts = [f"request {one['id']}", f"model {one['model']}", str(one["endpoint"]), one.get("status") or "running"]
    if one.get("ttft_s") is not None:
        parts.append(f"first token after {one['ttft_s'] * 1e3:.0f} ms")
    if one.get("duration_s") is not None:
        parts.append(f"took {one['duration_s'] * 1e3:.0f} ms")
    parts.append(f"{one['prompt_tokens']} prompt and {one['output_tokens']} output tokens")
    if one.get("error"):
        parts.append(f"error: {one['error']}")
    return ", ".join(parts)


def _what(one: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(one["time"]).strftime("%H:%M:%S.%f")[:-3]
    role = "" if one["role"] == "aggregated" else f"{one['role']} "
    prompt = f", {one['prompt_tokens']} prompt tokens" if one["prompt_tokens"] else ""
    return f"{at} {role}on {one['worker'] or 'no worker'}, mode {one['mode']}{prompt}"


def _outcome(one: dict[str, Any]) -> str:
    moved = f"; moved, as {', '.join(one['moved_from'])} failed it" if one["moved_from"] else ""
    waited = f"; waited {one['queue_wait_s'] * 1e3:.1f} ms in the queue" if one["queue_wait_s"] else ""
    return f"why: {one['reason']}{waited}{moved}"


def _print_candidates(one: dict[str, Any]) -> None:
    rows = one["candidates"]
    if not rows:
        return
    ranks = any(row["rank"] for row in rows)
    scored = any("cost" in row for row in rows)
    header = ("WORKER", *(("RANK",) if ranks else ()), "INSTANCE")
    header += ("OVERLAP BLOCKS", "PREFILL TOKENS", "DECODE BLOCKS", "COST", "CHOICE") if scored else ("CHOICE",)
    print_table(header, [_row(row, ranks, scored) for row in rows])


def _row(row: dict[str, Any], ranks: bool, scored: bool) -> tuple[object, ...]:
    mark = CHOSEN if row["chosen"] else f"{LEFT_OUT}: {row['excluded']}" if "excluded" in row else FREE
    cells: tuple[object, ...] = (row["worker"], *((row["rank"],) if ranks else ()), row["instance"])
    if scored:
        cells += tuple(row.get(name) for name in ("overlap_blocks", "prefill_tokens", "decode_blocks", "cost"))
    return (*cells, mark)

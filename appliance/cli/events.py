"""The decision ledger as a table."""

from datetime import datetime
from typing import Any

import click

from appliance.cli.output import print_table


def print_events(events: list[dict[str, Any]]) -> None:
    """Events, oldest first, with what they were decided from."""
    rows = [_row(event) for event in sorted(events, key=lambda event: (event["at"], event.get("id", 0)))]
    if rows:
        print_table(("TIME", "SUBJECT", "ACTION", "REASON"), rows, detail=True)
    else:
        click.echo("none recorded")


def _row(event: dict[str, Any]) -> tuple[str, str, str, str]:
    inputs = " ".join(f"{name}={value}" for name, value in event.get("inputs", {}).items())
    reason = f"{event['reason']}  ({inputs})" if inputs else event["reason"]
    return f"{datetime.fromtimestamp(event['at']):%m-%d %H:%M:%S}", event["subject"], event["action"], reason

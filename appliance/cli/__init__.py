"""The command line: one module per verb, loaded when called; it parses, calls a role or the admin API, and prints."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the verb that the process was called with, and exit with its code."""
    if sys.argv[1:] == ["guard"]:
        # The guard watches every other process of ours, so it must be small and up at once: nothing else is imported.
        from appliance.supervision.guard import main as guard

        guard()
        raise SystemExit(0)
    if hasattr(sys, "frozen"):
        from appliance.cli.frozen import settle_in

        settle_in()
    from appliance.cli.program import run

    raise SystemExit(run(sys.argv[1:]))

"""How this very executable is called again for its children."""

import sys


def frozen() -> bool:
    """True in the one-file and one-folder builds."""
    return bool(getattr(sys, "frozen", False))


def own_command(*args: str) -> tuple[str, ...]:
    """The argv that runs a verb of this executable."""
    if frozen():
        return (sys.executable, *args)
    return (sys.executable, "-m", "appliance", *args)

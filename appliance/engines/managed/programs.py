"""Runs one program to its end, line by line."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from appliance.supervision.process import KILL_S, LaunchPlan, start_child

KEPT_LINES = 200


@dataclass(frozen=True)
class Ended:
    """How a program ended, and the last lines that it wrote."""

    code: int
    lines: list[str]

    def find(self, *texts: str) -> str | None:
        """The first line that holds one of these texts."""
        return next((line for line in self.lines if any(text in line for text in texts)), None)


async def run_program(argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> Ended:
    """Run it in its own group. No deadline of its own: a download may take an hour.

    Raises `CannotStart`. Cancelling kills the whole group.
    """
    child = start_child(LaunchPlan(argv=tuple(argv), env=env))
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    rest = b""

    def take(data: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        for text in (line.decode("utf-8", "replace").strip() for line in lines):
            if text:
                kept.append(text)
                on_line(text)

    try:
        await child.read_output(take)
        code = await child.wait()
        take(b"\n")
        return Ended(code, list(kept))
    finally:
        child.kill_group()
        with trio.move_on_after(KILL_S, shield=True):  # shield: a child must be reaped
            await child.wait()
        child.close()

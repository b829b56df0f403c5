"""Waiting in tests for what has no event of its own."""

from collections.abc import Callable

import trio


async def until(condition: Callable[[], object], deadline_s: float = 2.0) -> None:
    """Return once `condition()` holds. Raises `trio.TooSlowError` after the deadline."""
    with trio.fail_after(deadline_s):
        while not condition():  # noqa: ASYNC110  a test helper for what has no event
            await trio.sleep(0.001)

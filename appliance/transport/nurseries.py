"""A nursery that a context manager may hide from its users."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_inner_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose block raises its exception as it is, not wrapped in a group, when it is the only one."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None  # the group only says that there was a nursery
        raise

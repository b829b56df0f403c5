"""What a task gets that was woken by hand: nothing, at a third less than trio's own nothing costs."""

from collections.abc import AsyncGenerator, Generator
from typing import Any, Final, TypeVar

import outcome

R = TypeVar("R")


class _Awake(outcome.Outcome[None]):
    """`outcome.Value(None)`, but one for all: a value can be unwrapped only once, and each request would need two."""

    __slots__ = ()

    def unwrap(self) -> None:
        return None

    def send(self, gen: Generator[R, None, object]) -> R:
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[R, None]) -> R:
        return await agen.asend(None)


AWAKE: Final[outcome.Outcome[Any]] = _Awake()
"""For `trio.lowlevel.reschedule(task, AWAKE)`, as often as one likes."""

"""Signals of a role: the first stop signal asks for an orderly stop, a later one means now."""

import signal
from collections.abc import Callable

import trio

REPEAT_S = 0.5  # one Ctrl-C reaches the Python child of a one-file build twice


async def watch_stop_signals(
    on_stop: Callable[[], None],
    on_now: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `on_stop` at the first SIGTERM or SIGINT, `on_now` at one that comes more than `REPEAT_S` later."""
    first: float | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for _ in received:
            now = trio.current_time()
            if first is None:
                first = now
                on_stop()
            elif now - first > REPEAT_S:
                on_now()


def first_error(error: BaseException) -> BaseException:
    """The first leaf of an exception group that is no cancellation; other exceptions are returned as they are."""
    while isinstance(error, BaseExceptionGroup):
        leaves = [e for e in error.exceptions if not isinstance(e, trio.Cancelled)]
        error = (leaves or list(error.exceptions))[0]
    return error

"""Asks a publisher for batches that it still has."""

from collections.abc import Callable

import trio
import zmq

from appliance.core.errors import ApplianceError
from appliance.events.zmq_frames import BadFrames, Numbered, read_reply, write_request
from appliance.events.zmq_sockets import ZmqContext, attach, opened

QUIET_S = 5.0


class ReplayFailed(ApplianceError):
    """A publisher that did not answer a request for a replay, or not to its end."""

    code, status, retryable = "replay_failed", 503, True


async def replay(
    context: ZmqContext,
    endpoint: str,
    start: int,
    take: Callable[[Numbered], bool],
    quiet_s: float = QUIET_S,
) -> None:
    """Call `take` with every batch from number `start` on that the publisher has, in its order.

    Ends at the end mark, or as soon as `take` returns false. Raises `ReplayFailed` when nothing comes for `quiet_s`
    or when what comes is no reply; the batches before that have been taken. Cancelling leaves no trace.
    """
    with opened(context, zmq.DEALER) as socket:
        attach(socket, endpoint, bind=False)
        socket.send_nowait(write_request(start))
        while True:
            with trio.move_on_after(quiet_s) as waiting:
                frames = await socket.receive()
            if waiting.cancelled_caught:
                raise ReplayFailed(f"cannot replay from {start}: {endpoint} was silent for {quiet_s:g} s")
            try:
                entry = read_reply(frames)
            except BadFrames as error:
                raise ReplayFailed(f"cannot replay from {start}: {error.message}") from None
            if entry is None or not take(entry):
                return

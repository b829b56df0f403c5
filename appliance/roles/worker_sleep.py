"""Sleep of a worker: it hands over no stream, its engine gives the memory back, and later both are taken back."""

import logging
from collections.abc import Callable
from typing import cast

import trio

from appliance.core.errors import ApplianceError, NotImplementedHere
from appliance.core.ports import Engine, Sleeper, SleepLevel
from appliance.transport.link_server import LinkServer
from appliance.wire.bus_messages import Sleep, SleepFailed, Slept, ToSupervisor, Wake, Woke

log = logging.getLogger(__name__)

ORDERS = 16
"""Far more than a supervisor gives before it has had an answer."""


class WorkerSleep:
    """Obeys `Sleep` and `Wake`, one after the other; each is answered with `Slept`, `Woke` or `SleepFailed`."""

    def __init__(self, engine: Engine, server: LinkServer, answer: Callable[[ToSupervisor], None]) -> None:
        """`answer` posts to the supervisor and must not block."""
        self._engine, self._server, self._answer = engine, server, answer
        self._orders_in, self._orders_out = trio.open_memory_channel[Sleep | Wake](ORDERS)

    def order(self, order: Sleep | Wake) -> None:
        """Take an order; it is carried out by `run`. Orders beyond all measure are answered as failed."""
        try:
            self._orders_in.send_nowait(order)
        except trio.WouldBlock:
            self._answer(SleepFailed("too many orders to sleep and wake at once"))

    async def run(self) -> None:
        """Carry out orders until cancelled. After a fault nothing new is taken: the supervisor ends the worker."""
        async for order in self._orders_out:
            try:
                self._answer(await self._carry_out(order))
            except ApplianceError as error:
                act = "sleep" if isinstance(order, Sleep) else "wake"
                log.warning("cannot %s: %s", act, error.message)
                self._answer(SleepFailed(f"cannot {act}: {error.message}"))

    async def _carry_out(self, order: Sleep | Wake) -> Slept | Woke:
        if not isinstance(self._engine, Sleeper):
            raise NotImplementedHere("this engine has no sleep")
        if isinstance(order, Sleep):
            await self._server.drain(order.drain_s)
            await self._engine.sleep(cast("SleepLevel", order.level))
            log.info("asleep level=%d", order.level)
            return Slept(order.level)
        await self._engine.wake()
        self._server.reopen()
        log.info("awake again")
        return Woke()

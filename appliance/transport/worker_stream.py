"""One stream in the worker: the engine's sink, and the task that runs the engine for it."""

import logging
import sys
from array import array
from collections.abc import Callable
from typing import Any

import trio

from appliance.core.errors import ApplianceError, EngineFailed, WorkerLost, WorkerTimeout
from appliance.core.ports import Engine
from appliance.core.requests import EngineRequest, EngineUsage, FinishReason, TokenChunk, TokenLogprob
from appliance.transport.error_codes import code_and_message
from appliance.transport.outbox import Outbox
from appliance.wire.link_messages import Failed, Vector

CANCELLED = "cancelled"
LOG = logging.getLogger(__name__)


class WorkerStream:
    """Runs one request and sends what comes of it. A `TokenSink`; `emit` may be called in or between task steps."""

    def __init__(
        self,
        number: int,
        request: EngineRequest,
        outbox: Outbox,
        add_chunk: Callable[[TokenChunk], None],
        post: Callable[[Any], None],
    ) -> None:
        self._number = number
        self.request = request
        self._add_chunk = add_chunk
        self._post = post
        self._over = False
        self._evicted = self._given_up = False
        self._scope = trio.CancelScope()
        self.usage: EngineUsage | None = None
        """Of a stream that has come to its end."""
        self.room = outbox.room

    def emit(
        self,
        token_ids: list[int],
        finish: FinishReason | None = None,
        usage: EngineUsage | None = None,
        logprobs: list[TokenLogprob] | None = None,
        handover: dict[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        """See `TokenSink`. After the call with `finish`, and after a cancel, calls are ignored."""
        if self._over:
            return
        if finish is not None:
            self._over = True
            self.usage = usage
        self._add_chunk(TokenChunk(self._number, token_ids, finish, usage, logprobs, handover, text))

    def cancel(self) -> None:
        """The front end gave the stream up: stop the engine and send nothing more."""
        self._over = self._given_up = True
        self._scope.cancel()

    def evict(self) -> None:
        """The worker stops before the stream has ended: the front end hears `worker_lost` and may place it again."""
        self._evicted = True
        self._scope.cancel()

    async def run(self, engine: Engine) -> str:
        """Run the request to its end and report a failure to the front end; raises nothing of the engine's.

        Returns the code of its error, `CANCELLED`, or nothing.
        """
        if self.request.deadline_s is not None:
            self._scope.deadline = trio.current_time() + self.request.deadline_s
        fault: Exception | None = None
        with self._scope:
            try:
                await self._ask(engine)
            except Exception as caught:
                fault = caught
        if self._over:
            return CANCELLED if self._given_up else ""
        self._over = True
        code, message = code_and_message(self._explain(fault))
        self._post(Failed(self._number, code, message))
        return code

    async def _ask(self, engine: Engine) -> None:
        if self.request.task == "generate":
            await engine.generate(self.request, self)
            return
        values = array("f", await engine.embed(self.request))
        if sys.byteorder == "big":
            values.byteswap()
        if not self._over:
            self._over = True
            self._post(Vector(self._number, values.tobytes(), len(self.request.token_ids)))

    def _explain(self, fault: Exception | None) -> Exception:
        """Why the stream ended without a last chunk."""
        if self._evicted:
            return WorkerLost("cannot finish the stream: its worker was stopped")
        if self._scope.cancelled_caught:
            return WorkerTimeout(f"cannot finish the stream within its deadline of {self.request.deadline_s:g} s")
        if fault is None:
            return EngineFailed("cannot finish the stream: the engine ended it without a last token")
        if not isinstance(fault, ApplianceError):
            LOG.error("engine fault", exc_info=fault)
        return fault

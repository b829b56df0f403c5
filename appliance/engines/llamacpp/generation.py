"""One stream on one leased slot: the engine calls it takes, their output passed on to the sink."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from appliance.core.errors import EngineFailed
from appliance.core.ports import TokenSink
from appliance.core.requests import EngineRequest, EngineUsage, FinishReason, Sampling
from appliance.engines.llamacpp.completion import SEED_LIMIT, Leg, completion_body, draw_seed
from appliance.engines.llamacpp.handover import Handovers
from appliance.engines.llamacpp.held_tokens import HeldTokens
from appliance.engines.llamacpp.leases import Lease, SlotPool
from appliance.engines.llamacpp.options import MemoryPlan
from appliance.engines.llamacpp.server import LlamaServer
from appliance.engines.llamacpp.stream import CompletionStream, Step


@dataclass(kw_only=True)
class LoadedModel:
    """What the streams of one loaded model share."""

    server: LlamaServer
    plan: MemoryPlan
    slots: SlotPool
    call_threads: trio.CapacityLimiter
    """One thread for each slot: a call never waits for a thread while it holds a slot."""
    held_tokens: HeldTokens
    end_ids: frozenset[int]
    default_sampling: Sampling
    handovers: Handovers | None = None
    """Of a worker that computes one half of split requests."""
    calls: set[CompletionStream] = field(default_factory=set)
    """Calls in progress."""
    closing: bool = False
    messages: int = 0
    """Of the calls that have ended."""

    def progress(self) -> int:
        """Grows with every part of a prompt that was computed, and with every token."""
        return self.messages + sum(call.messages for call in self.calls)

    def stop_calls(self) -> None:
        """End every call at its next message; their streams then fail."""
        self.closing = True
        for call in self.calls:
            call.stop()


class Generation:
    """Runs one request on a slot. `run` is called once."""

    def __init__(
        self, model: LoadedModel, request: EngineRequest, sink: TokenSink, lease: Lease, grammar: str | None
    ) -> None:
        self._model = model
        self._request = request
        self._sink = sink
        self._lease = lease
        self._grammar = grammar
        self._out: list[int] = []
        self._cached_tokens: int | None = None

    async def run(self) -> None:
        """Emit until the finish. Raises `EngineFailed`, `InvalidRequest`; cancelling waits until the slot is free."""
        prompt, stop = self._request.token_ids, self._request.stop
        end_ids = frozenset() if stop.ignore_eos else self._model.end_ids
        stop_ids = end_ids | frozenset(stop.stop_token_ids)
        budget = min(stop.max_tokens, self._model.plan.context - len(prompt))
        minimum = min(stop.min_tokens, budget)
        seed = draw_seed(self._request.sampling)
        if minimum and (stop_ids or not stop.ignore_eos):
            await self._run_leg(
                Leg(prompt=prompt, max_tokens=minimum, banned=stop_ids, end_allowed=False, seed=seed),
                last=minimum == budget,
            )
            if minimum == budget:
                return
            prompt, budget, seed = prompt + self._out, budget - minimum, (seed + 1) % SEED_LIMIT
        await self._run_leg(Leg(prompt=prompt, max_tokens=budget, stop_ids=stop_ids, seed=seed), last=True)

    async def _run_leg(self, leg: Leg, *, last: bool) -> None:
        send, receive = trio.open_memory_channel[Step](math.inf)  # holds at most the tokens of one context
        stream = CompletionStream(
            _from_any_thread(send.send_nowait),
            prompt=leg.prompt,
            stop_ids=leg.stop_ids,
            logprobs=self._request.logprobs,
            held_tokens=self._model.held_tokens,
        )
        self._model.calls.add(stream)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._call, leg, stream, send)
                try:
                    await self._pass_on(receive, stream, last=last)
                finally:
                    stream.stop()  # the nursery then waits until the engine has let go of the slot
        finally:
            self._model.calls.discard(stream)
            self._model.messages += stream.messages
            self._lease.content, self._lease.ran_on = stream.slot_content, stream.ran_on
        if stream.error is not None:
            raise stream.error
        if stream.finish is None:
            raise EngineFailed("the engine was closed" if self._model.closing else "the engine ended without a result")

    async def _call(self, leg: Leg, stream: CompletionStream, send: trio.MemorySendChannel[Step]) -> None:
        body = completion_body(
            self._request,
            leg,
            slot=self._lease.slot,
            context=self._model.plan.context,
            defaults=self._model.default_sampling,
            grammar=self._grammar,
        )
        try:
            # Not abandoned on cancel: the slot is the call's until it returns, and `stop` makes it return.
            await trio.to_thread.run_sync(
                self._model.server.complete, body, stream.on_message, limiter=self._model.call_threads
            )
        except Exception:  # the binding raises whatever C++ throws; its words are not for users
            stream.error = stream.error or EngineFailed("the engine could not go on with this request")
        finally:
            send.close()

    async def _pass_on(self, receive: trio.MemoryReceiveChannel[Step], stream: CompletionStream, *, last: bool) -> None:
        async for step in receive:
            _merge_waiting(step, receive)
            finish = step.finish if last or step.finish != "length" else None
            if step.token_ids or finish:
                self._emit(step, finish, stream)
            if step.finish is None:
                await self._sink.room()

    def _emit(self, step: Step, finish: FinishReason | None, stream: CompletionStream) -> None:
        if self._cached_tokens is None:
            self._model.slots.report_computed(self._lease.slot, self._request.token_ids)
            self._cached_tokens = stream.cached_tokens  # of the first leg: the second finds all that the first left
        self._out += step.token_ids
        usage = None
        if finish:
            usage = EngineUsage(len(self._request.token_ids), len(self._out), self._cached_tokens)
        self._sink.emit(step.token_ids, finish, usage, step.logprobs if self._request.logprobs is not None else None)


def _from_any_thread(deliver: Callable[[Step], None]) -> Callable[[Step], None]:
    """The same function, run soon on the trio thread and in order."""
    token = trio.lowlevel.current_trio_token()

    def hand_over(step: Step) -> None:
        token.run_sync_soon(deliver, step)

    return hand_over


def _merge_waiting(step: Step, receive: trio.MemoryReceiveChannel[Step]) -> None:
    """Add to a step all that arrived meanwhile, so that a busy consumer gets fewer and larger ones."""
    while True:
        try:
            more = receive.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return
        step.token_ids += more.token_ids
        step.logprobs += more.logprobs
        step.finish = more.finish

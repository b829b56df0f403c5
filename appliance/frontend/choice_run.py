"""One choice on its way: its place on a worker, its stream there, and what the next worker is asked for.

A choice that moves goes on behind the tokens it has, so the client sees one stream. One whose output is under a grammar
cannot go on in the middle: it runs again from its prompt while nothing of it was shown, and fails after that.
"""

from contextlib import AbstractContextManager

import msgspec

from appliance.core.errors import ApplianceError, WorkerLost
from appliance.core.identity import WorkerId
from appliance.core.ports import WorkerTransport
from appliance.core.requests import EngineRequest, EngineUsage, KvTransfer, TokenChunk
from appliance.frontend.split_runs import PrefillHalf
from appliance.frontend.streams.choice import ChoiceStream
from appliance.routing.router import Placement


class ChoiceRun(msgspec.Struct, eq=False):
    """One choice: its place on a worker, its stream there, and how often it has moved."""

    choice: ChoiceStream
    request: EngineRequest
    moves: int = 0
    worker: WorkerId | None = None
    """Where it runs, or ran last."""
    _before: int = 0
    """Tokens that it had when it was placed."""
    _placement: Placement | None = None
    _stream: AbstractContextManager[None] | None = None
    _half: PrefillHalf | None = None
    """Of a split request: its prompt on another worker, before or beside the stream."""

    @property
    def can_move(self) -> bool:
        """It can go on behind its tokens, or start over without anybody noticing."""
        return self._can_resume or self.choice.untouched

    @property
    def got_nothing(self) -> bool:
        """Where it runs, or ran last, it was given no token."""
        return len(self.choice.token_ids) == self._before

    @property
    def _can_resume(self) -> bool:
        return self.request.guided is None and bool(self.request.token_ids)

    def hold(self, half: PrefillHalf) -> None:
        """A prefill half begins; it ends with this choice, if not before."""
        self._half = half
        self._before = len(self.choice.token_ids)

    def fail(self, error: ApplianceError) -> None:
        """Whatever it waits for has failed: its prefill half, or the choice itself."""
        half = self._half
        if half is None or half.ended.is_set() or half.on_failed is not None:
            self.choice.on_error(error)
        else:
            half.on_error(error)

    def lose_half(self, half: PrefillHalf) -> None:
        """The prefill half beside the stream has failed: the stream would wait in vain, unless it has begun."""
        if self._half is half and self.got_nothing:
            self.worker = half.worker
            self.choice.on_error(WorkerLost("the prefill worker failed"))

    def enter(self, placement: Placement, transport: WorkerTransport, transfer: KvTransfer | None = None) -> WorkerId:
        """Take the place and open the stream; `transfer` says where its prompt's keys and values are.

        Raises `WorkerLost` without a link; the place is then free again.
        """
        choice = self.choice
        self._placement = placement
        worker = self.worker = placement.worker
        self._before = len(choice.token_ids)
        choice.on_tokens = self._count_tokens
        try:
            request = self.request_now() if choice.token_ids else self.request
            rank = placement.engine_rank
            if transfer is not None or rank is not None:
                request = msgspec.structs.replace(request, kv_transfer=transfer, rank=rank)
            stream = transport.open(worker, request, choice)
            stream.__enter__()
        except BaseException:
            self.leave()
            raise
        self._stream = stream
        return worker

    def leave(self) -> None:
        """Cancel the stream if it still runs, and free the place; both halves of a split one. Safe to call twice."""
        if (half := self._half) is not None:
            self._half = None
            half.leave()
        if (stream := self._stream) is not None:
            self._stream = None
            stream.__exit__(None, None, None)
        if (placement := self._placement) is not None:
            self._placement = None
            placement.__exit__(None, None, None)

    def _count_tokens(self) -> None:
        """Tell the router of the first token, and of the others if it wants to know."""
        placement = self._placement
        if placement is None:
            return
        placement.prefill_complete()
        if placement.tracks_output:
            placement.output(len(self.choice.token_ids) - self._before)
        else:
            self.choice.on_tokens = None

    def request_now(self) -> EngineRequest:
        """What to ask the next worker for: the prompt, behind it the tokens so far, and as many less to come."""
        done = self.choice.token_ids
        if not done:
            return self.request
        stop = self.request.stop
        return msgspec.structs.replace(
            self.request,
            token_ids=[*self.request.token_ids, *done],
            stop=msgspec.structs.replace(
                stop, max_tokens=stop.max_tokens - len(done), min_tokens=max(0, stop.min_tokens - len(done))
            ),
        )

    def take_up(self) -> bool:
        """Make the failed choice ready to go on; False when it had all its tokens and is complete now."""
        if not self._can_resume:
            self.choice.restart()
            return True
        self.choice.resume()
        done = len(self.choice.token_ids)
        if done < self.request.stop.max_tokens:
            return True
        self.choice.on_chunk(TokenChunk(0, [], "length", EngineUsage(len(self.request.token_ids), done)))
        self.choice.flush()
        return False

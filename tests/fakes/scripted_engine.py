"""An engine that says what it was told to, at once, with a fault where it was told to."""

from collections.abc import Sequence

import trio

from appliance.core.errors import EngineFailed, InvalidRequest
from appliance.core.identity import ModelName
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.requests import EngineRequest, EngineUsage, ModelCard, TokenLogprob

CONTEXT = 512


class ScriptedEngine:
    """Emits the script's steps in turn, over and over while a request wants more; `fail_at` raises before that step.

    With a seed the script starts at a place that the seed chooses. At most `slots` streams run at once.
    """

    def __init__(self, script: Sequence[Sequence[int]], *, slots: int = 4, fail_at: int | None = None) -> None:
        self._script = [list(step) for step in script]
        self._length = sum(len(step) for step in self._script)
        self._slots = trio.CapacityLimiter(slots)
        self._fail_at = fail_at
        self._scopes: set[trio.CancelScope] = set()
        self._refusal: str | None = "not started"
        self._changed = trio.Event()
        self._closed = False
        self.started = 0
        """Streams that got a slot."""

    async def start(self, progress: ProgressReport) -> ModelCard:
        await trio.lowlevel.checkpoint()
        progress(1.0, "ready")
        self._refusal = None
        return ModelCard(
            name=ModelName("scripted"), context_length=CONTEXT, engine="scripted", max_num_seqs=4, eos_token_ids=(2,)
        )

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        if self._refusal is not None:
            raise EngineFailed(self._refusal)
        if not 0 < len(request.token_ids) < CONTEXT:
            raise InvalidRequest("the prompt does not fit", param="prompt")
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with self._slots:
                    self.started += 1
                    await self._run(request, sink)
            finally:
                self._scopes.discard(scope)
                self._changed.set()
                self._changed = trio.Event()
        if scope.cancelled_caught:
            raise EngineFailed("closed")

    async def embed(self, request: EngineRequest) -> list[float]:
        await trio.lowlevel.checkpoint()
        raise InvalidRequest("no embeddings here")

    async def drain(self) -> None:
        self._refusal = "draining"
        await self._wait_empty()

    async def close(self) -> None:
        self._refusal = "closed"
        for scope in self._scopes:
            scope.cancel()
        await self._wait_empty()

    async def _wait_empty(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._scopes:
            await self._changed.wait()

    async def _run(self, request: EngineRequest, sink: TokenSink) -> None:
        stop, emitted, step = request.stop, 0, request.sampling.seed or 0
        while True:
            if step == self._fail_at:
                raise EngineFailed("the script says so")
            tokens = self._script[step % len(self._script)]
            step += 1
            ended = False
            for index, token in enumerate(tokens):
                if token in stop.stop_token_ids:
                    ended = emitted + index >= stop.min_tokens
                    tokens = tokens[:index] if ended else [t for t in tokens if t not in stop.stop_token_ids]
                    break
            tokens = tokens[: stop.max_tokens - emitted]
            emitted += len(tokens)
            over = emitted >= self._length and emitted >= stop.min_tokens and not stop.ignore_eos
            logprobs = None if request.logprobs is None else [TokenLogprob(-1.0) for _ in tokens]
            if ended or over or emitted >= stop.max_tokens:
                finish = "stop" if ended or (over and emitted < stop.max_tokens) else "length"
                usage = EngineUsage(len(request.token_ids), emitted)
                sink.emit(tokens, finish, usage, logprobs)  # type: ignore[arg-type]  # both texts are finish reasons
                return
            sink.emit(tokens, None, None, logprobs)
            await sink.room()

"""An engine that counts: its tokens are 1, 2, 3, ...; switches make it slow, deaf or faulty."""

from dataclasses import dataclass, field

import trio

from appliance.core.errors import NotFound
from appliance.core.identity import Digest, ModelName
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.requests import EngineRequest, EngineUsage, FileRef, ModelCard


def make_card(files: dict[str, FileRef] | None = None, max_num_seqs: int = 4) -> ModelCard:
    """A card with nothing special on it."""
    return ModelCard(
        name=ModelName("m"), context_length=4096, engine="counting", files=files or {}, max_num_seqs=max_num_seqs
    )


@dataclass
class TokenEngine:
    """Emits `max_tokens` tokens per stream, all streams in the same pass of the scheduler."""

    step_s: float = 0.0
    """Seconds between steps, on the clock's grid; 0: as fast as there is room."""
    fail_at: int | None = None
    """Raise `fault` instead of this token (0-based)."""
    fault: Exception = field(default_factory=lambda: RuntimeError("/secret/path: CUDA out of memory"))
    hang_at: int | None = None
    """Emit nothing from this token on, until cancelled."""
    forget_finish: bool = False
    """Return without the call that has `finish`."""
    heeds_room: bool = True
    """False: never asks whether there is room."""
    vector: list[float] = field(default_factory=lambda: [0.5, -1.0, 2.0])
    content: dict[Digest, bytes] = field(default_factory=dict)
    """Files by digest."""
    running: int = 0
    cancelled: int = 0
    largest: int = 0
    """Most streams that ran at once."""

    async def start(self, progress: ProgressReport) -> ModelCard:
        progress(1.0, "counted")
        return make_card()

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        self.running += 1
        self.largest = max(self.largest, self.running)
        try:
            await self._count(request.stop.max_tokens, sink)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _count(self, tokens: int, sink: TokenSink) -> None:
        for index in range(tokens):
            if index == self.fail_at:
                raise self.fault
            if index == self.hang_at:
                await trio.sleep_forever()
            last = index == tokens - 1 and not self.forget_finish
            sink.emit([index + 1], "length" if last else None, EngineUsage(1, tokens) if last else None)
            if not last:
                await self._pause(sink)

    async def _pause(self, sink: TokenSink) -> None:
        if self.step_s:
            now = trio.current_time()
            await trio.sleep_until((now // self.step_s + 1) * self.step_s)
        elif self.heeds_room:
            await sink.room()
        else:
            await trio.lowlevel.checkpoint()

    async def embed(self, request: EngineRequest) -> list[float]:
        if self.hang_at is not None:
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled += 1
        if self.fail_at is not None:
            raise self.fault
        await trio.lowlevel.checkpoint()
        return self.vector

    def read_file(self, digest: Digest) -> bytes:
        try:
            return self.content[digest]
        except KeyError:
            raise NotFound(f"no file {digest}") from None

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


class SpellingEngine(TokenEngine):
    """A `TokenEngine` with a tokenizer: a token per byte."""

    async def tokenize(self, text: str, *, special: bool) -> list[int]:
        await trio.lowlevel.checkpoint()
        if text == "hang":
            await trio.sleep_forever()
        return list(text.encode())

    async def detokenize(self, token_ids: list[int]) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(token_ids)

"""Stream sinks for tests."""

import trio

from appliance.core.errors import ApplianceError
from appliance.core.requests import FinishReason, TokenChunk


class RecordingSink:
    """Keeps what it was given. `fails` names the calls that raise."""

    def __init__(self, *fails: str) -> None:
        self.tokens: list[int] = []
        self.finish: FinishReason | None = None
        self.errors: list[ApplianceError] = []
        self.flushes = 0
        self.unflushed = 0
        """Chunks and errors since the last flush."""
        self.late = 0
        """Chunks and errors that came after the end, which none may."""
        self.ended = trio.Event()
        """Set by the last chunk or by an error."""
        self.began = trio.Event()
        self._fails = fails

    def on_chunk(self, chunk: TokenChunk) -> None:
        self._count_late()
        self._maybe_fail("on_chunk")
        self.tokens += chunk.token_ids
        self.unflushed += 1
        self.began.set()
        if chunk.finish is not None:
            self.finish = chunk.finish
            self.ended.set()

    def on_error(self, error: ApplianceError) -> None:
        self._count_late()
        self.unflushed += 1
        self.errors.append(error)
        self.ended.set()
        self._maybe_fail("on_error")

    def flush(self) -> None:
        self._maybe_fail("flush")
        self.flushes += 1
        self.unflushed = 0

    def _count_late(self) -> None:
        self.late += self.ended.is_set()

    def _maybe_fail(self, call: str) -> None:
        if call in self._fails:
            raise ValueError(f"{call} of a test sink")

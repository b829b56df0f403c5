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
        """Chunks since the last flush."""
        self.ended = trio.Event()
        """Set by the last chunk or by an error."""
        self.began = trio.Event()
        self._fails = fails

    def on_chunk(self, chunk: TokenChunk) -> None:
        assert not self.ended.is_set(), "a chunk came after the end"
        self._maybe_fail("on_chunk")
        self.tokens += chunk.token_ids
        self.unflushed += 1
        self.began.set()
        if chunk.finish is not None:
            self.finish = chunk.finish
            self.ended.set()

    def on_error(self, error: ApplianceError) -> None:
        assert not self.ended.is_set(), "an error came after the end"
        self.errors.append(error)
        self.ended.set()
        self._maybe_fail("on_error")

    def flush(self) -> None:
        self._maybe_fail("flush")
        self.flushes += 1
        self.unflushed = 0

    def _maybe_fail(self, call: str) -> None:
        if call in self._fails:
            raise ValueError(f"{call} of a test sink")

"""Which requests an engine lets in, and how many are inside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from appliance.core.errors import EngineFailed, InvalidRequest

NOT_STARTED = "the engine has not been started"
DRAINING = "the engine is draining and takes no new requests"
CLOSED = "the engine was closed"


class Admission:
    """The door of an engine: shut before it is started, while it drains and once it is closed."""

    def __init__(self) -> None:
        self._refusal: str | None = NOT_STARTED
        self._inside = 0
        self._changed = trio.Event()

    def open(self) -> None:
        """Let requests in from now on."""
        self._refusal = None

    def shut(self, why: str) -> None:
        """Refuse requests from now on; those inside stay."""
        self._refusal = why

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count one request while it is inside. Raises `EngineFailed` when the door is shut."""
        if self._refusal is not None:
            raise EngineFailed(self._refusal)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._changed.set()
            self._changed = trio.Event()

    async def wait_empty(self) -> None:
        """Return when nothing is inside. Has no deadline of its own: the caller's drain time bounds it."""
        await trio.lowlevel.checkpoint()
        while self._inside:
            await self._changed.wait()


def check_prompt(token_ids: Sequence[int], context: int) -> None:
    """Raises `InvalidRequest` for a prompt that is empty or leaves no room for a single token of output."""
    if not token_ids:
        raise InvalidRequest("the prompt is empty", param="prompt")
    if len(token_ids) >= context:
        raise InvalidRequest(
            f"the prompt has {len(token_ids)} tokens, which leaves no room in a context of {context}", param="prompt"
        )

"""A sink that passes nothing on."""

import trio

from appliance.core.requests import EngineUsage, FinishReason, TokenLogprob


class KeptOutput:
    """A `TokenSink` that keeps what a stream gives, for whoever looks at it afterwards, or for nobody."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.usage: EngineUsage | None = None

    def emit(
        self,
        token_ids: list[int],
        finish: FinishReason | None = None,
        usage: EngineUsage | None = None,
        logprobs: list[TokenLogprob] | None = None,
        handover: object = None,
        text: str | None = None,
    ) -> None:
        """See `TokenSink.emit`."""
        self.token_ids += token_ids
        self.usage = usage or self.usage

    async def room(self) -> None:
        """See `TokenSink.room`. There is always room."""
        await trio.lowlevel.checkpoint()

"""What is known of one request, from its arrival until it is forgotten."""

from collections.abc import Callable, Sequence
from types import TracebackType

import msgspec

from appliance.core.errors import ApplianceError
from appliance.core.generation import PublicEndpoint
from appliance.core.identity import RequestId
from appliance.frontend.routed import Routed


def _nobody_counts(account: "Account", error: BaseException | None) -> None:
    pass


class Account(msgspec.Struct, kw_only=True, eq=False):
    """One request while it runs, and as one of the last that have ended. Times are `time.perf_counter` seconds.

    A context manager: the request has ended when its block is left, in whatever way.
    """

    id: RequestId
    endpoint: PublicEndpoint
    started: float
    model: str = ""
    """Whose workers compute it; empty until it was decoded."""
    stream: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    first_token: float | None = None
    gaps: Sequence[float] = ()
    """Seconds between the tokens of its streams; dropped when it has ended."""
    itl_s: float = 0.0
    """The mean of those."""
    workers: list[str] = []
    """Workers that it ran on, in order."""
    prefill_workers: list[str] = []
    """Workers that computed prompts for those, in order."""
    prepared: float | None = None
    """When its prompt was ready to be placed."""
    last_step_s: float | None = None
    """From the last tokens to the end of the answer."""
    routed: Routed = msgspec.field(default_factory=Routed)
    error: ApplianceError | None = None
    """Set when the answer ended in an error inside the stream."""
    produced: Callable[[], int] | None = None
    """Output tokens up to now; only while the answer is being made."""
    ended: float = 0.0
    """0 while it runs."""
    status: str = ""
    """`success`, `cancelled`, or the kind of its error; empty while it runs."""
    complaint: str = ""
    """The error as the client was told it; empty for a success."""
    on_end: "Callable[[Account, BaseException | None], None]" = _nobody_counts
    """Told of the end, with what the block raised."""

    def __enter__(self) -> "Account":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.on_end(self, error)

    def produced_now(self) -> int:
        """Output tokens up to now, or in the end."""
        return self.output_tokens if self.produced is None else self.produced()

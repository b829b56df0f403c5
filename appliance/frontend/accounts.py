"""What each request did: active requests for `status`, and the request metrics when it ends."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from appliance.core.errors import (
    ApplianceError,
    InvalidRequest,
    ModelNotReady,
    NotFound,
    NotImplementedHere,
    Overloaded,
)
from appliance.core.generation import PublicEndpoint
from appliance.core.identity import RequestId
from appliance.telemetry.cells import Metrics

FE = "dynamo_frontend_"

ERROR_TYPES: tuple[tuple[type[ApplianceError], str], ...] = (
    (InvalidRequest, "validation"),
    (NotFound, "not_found"),
    (Overloaded, "overload"),
    (ModelNotReady, "overload"),
    (NotImplementedHere, "not_implemented"),
)


@dataclass(slots=True, kw_only=True)
class Account:
    """One request while it runs. Times are `time.perf_counter` seconds."""

    id: RequestId
    endpoint: PublicEndpoint
    started: float
    model: str = ""
    stream: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    first_token: float | None = None
    gaps: Sequence[float] = ()
    """Seconds between the tokens of its streams."""
    workers: list[str] = field(default_factory=list)
    """Workers that it ran on, in order."""
    error: ApplianceError | None = None
    """Set when the answer ended in an error inside the stream."""


class Accounts:
    """All requests of this front end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._active: dict[RequestId, Account] = {}

    @property
    def active(self) -> int:
        return len(self._active)

    def snapshot(self) -> list[dict[str, object]]:
        """Running requests, oldest first, as plain data."""
        now = time.perf_counter()
        return [
            {
                "id": a.id,
                "model": a.model,
                "endpoint": a.endpoint,
                "age_s": round(now - a.started, 3),
                "stream": a.stream,
                "workers": list(a.workers),
                "prompt_tokens": a.prompt_tokens,
            }
            for a in self._active.values()
        ]

    @contextmanager
    def request(self, id: RequestId, endpoint: PublicEndpoint) -> Iterator[Account]:
        """Count a request from here to the end of the block, however it is left."""
        account = Account(id=id, endpoint=endpoint, started=time.perf_counter())
        self._active[id] = account
        try:
            yield account
        except ApplianceError as error:
            self._close(account, "error", _error_type(error))
            raise
        except trio.Cancelled:
            self._metrics.cell(FE + "disconnected_clients").add()
            self._metrics.cell(FE + "model_cancellation_total", account.model, endpoint, _kind(account)).add()
            self._close(account, "error", "cancelled")
            raise
        except BaseException:
            self._close(account, "error", "internal")
            raise
        else:
            if account.error is not None:
                self._close(account, "error", _error_type(account.error))
            else:
                self._close(account, "success", "")
        finally:
            del self._active[id]

    def model_known(self, account: Account, model: str) -> None:
        """The request was decoded: it counts for its model from now on."""
        account.model = model
        for gauge in ("active_requests", "inflight_requests", "queued_requests"):
            self._metrics.cell(FE + gauge, model).add()

    def first_token(self, account: Account, at: float | None = None) -> None:
        """The first token of the request arrived, now or at a `time.perf_counter` that was noted."""
        if account.first_token is None:
            account.first_token = time.perf_counter() if at is None else at
            self._metrics.cell(FE + "queued_requests", account.model).add(-1)

    def moved(self, account: Account, *, ongoing: bool) -> None:
        """A stream of the request goes to another worker; `ongoing`: behind tokens that it has already."""
        kind = "ongoing_request" if ongoing else "new_request"
        self._metrics.cell(FE + "model_migration_total", account.model, kind).add()

    def too_long_to_move(self, account: Account) -> None:
        """A stream of the request lost its worker and has grown too long to be moved."""
        self._metrics.cell(FE + "model_migration_max_seq_len_exceeded_total", account.model).add()

    def _close(self, account: Account, status: str, error_type: str) -> None:
        metrics, model = self._metrics, account.model
        metrics.cell(FE + "requests_total", model, account.endpoint, _kind(account), status, error_type).add()
        if error_type == "overload":
            metrics.cell(FE + "model_rejection_total", model, account.endpoint).add()
        if not model:
            return
        metrics.cell(FE + "active_requests", model).add(-1)
        metrics.cell(FE + "inflight_requests", model).add(-1)
        metrics.histogram(FE + "request_duration_seconds", model).observe(time.perf_counter() - account.started)
        if account.first_token is None:
            metrics.cell(FE + "queued_requests", model).add(-1)
            return
        metrics.histogram(FE + "time_to_first_token_seconds", model).observe(account.first_token - account.started)
        metrics.histogram(FE + "inter_token_latency_seconds", model).observe_all(account.gaps)
        metrics.histogram(FE + "input_sequence_tokens", model).observe(account.prompt_tokens)
        metrics.histogram(FE + "output_sequence_tokens", model).observe(account.output_tokens)
        metrics.histogram(FE + "cached_tokens", model).observe(account.cached_tokens)
        metrics.cell(FE + "output_tokens_total", model).add(account.output_tokens)


def _kind(account: Account) -> str:
    return "stream" if account.stream else "unary"


def _error_type(error: ApplianceError) -> str:
    return next((name for kind, name in ERROR_TYPES if isinstance(error, kind)), "internal")

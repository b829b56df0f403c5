"""What each request did: active requests for `status`, and the request metrics when it ends."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

import msgspec
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
from appliance.frontend.ended_requests import EndedRequest, EndedRequests
from appliance.frontend.routed import Routed
from appliance.frontend.stages import StageCells, WorkerMark
from appliance.telemetry.cells import Metrics

FE = "dynamo_frontend_"

ERROR_TYPES: tuple[tuple[type[ApplianceError], str], ...] = (
    (InvalidRequest, "validation"),
    (NotFound, "not_found"),
    (Overloaded, "overload"),
    (ModelNotReady, "overload"),
    (NotImplementedHere, "not_implemented"),
)


class Account(msgspec.Struct, kw_only=True, eq=False):
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


class Accounts:
    """All requests of this front end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._active: dict[RequestId, Account] = {}
        self._cells: dict[str, _ModelCells] = {}
        self._ended = EndedRequests()
        self._last_end: dict[str, float] = {}
        self._stages = StageCells(metrics)
        self.marks: dict[tuple[str, int], WorkerMark] = {}
        """What the last request of each worker's rank was like."""

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
                "output_tokens": _produced(a),
            }
            for a in self._active.values()
        ]

    def use(self) -> dict[str, tuple[int, float]]:
        """Of each model that requests named: running ones, and seconds since the last one ended, negative if none."""
        now, running = trio.current_time(), Counter(account.model for account in self._active.values())
        names = [name for name in {**self._last_end, **running} if name]
        return {name: (running[name], now - self._last_end[name] if name in self._last_end else -1.0) for name in names}

    def ended(self) -> list[dict[str, object]]:
        """The last requests that have ended, newest first, as plain data."""
        return self._ended.rows()

    def load(self) -> dict[str, object]:
        """Counts since the start with what runs included, and the state of now; who asks twice has rates."""
        running = list(self._active.values())
        return {
            "requests": self._ended.count,
            "failed": self._ended.failed,
            "output_tokens": self._ended.output_tokens + sum(map(_produced, running)),
            "active": len(running),
            "waiting": sum(not account.workers for account in running),
            "ttfts_s": self._ended.recent_ttfts(),
        }

    def stages(self) -> Counter[tuple[str, str]]:
        """Running requests without a token yet, by stage and phase."""
        waiting = [a.routed for a in self._active.values() if not _produced(a)]
        return Counter((routed.stage, routed.phase) for routed in waiting)

    def request(self, id: RequestId, endpoint: PublicEndpoint) -> "OpenAccount":
        """A context manager that counts a request from here to the end of its block, however it is left."""
        return OpenAccount(self, Account(id=id, endpoint=endpoint, started=time.perf_counter()))

    def open(self, account: Account) -> None:
        """The request runs from now on."""
        self._active[account.id] = account

    def close(self, account: Account, error: BaseException | None) -> None:
        """The request has ended, with what its handler raised; counts it."""
        del self._active[account.id]
        self._last_end[account.model] = trio.current_time()
        if error is None:
            error = account.error
        if error is None:
            status, error_type = "success", ""
        elif isinstance(error, ApplianceError):
            status, error_type = "error", _error_type(error)
        elif isinstance(error, trio.Cancelled):
            self._metrics.cell(FE + "disconnected_clients").add()
            self._metrics.cell(FE + "model_cancellation_total", account.model, account.endpoint, _kind(account)).add()
            status, error_type = "error", "cancelled"
        else:
            status, error_type = "error", "internal"
        self._count(account, status, error_type)
        self._ended.add(_ended(account, error_type or status, error))

    def model_known(self, account: Account, model: str) -> None:
        """The request was decoded: it counts for its model from now on."""
        account.model = model
        cells = self._cells_of(model)
        cells.active.value += 1
        cells.inflight.value += 1
        cells.queued.value += 1

    def first_token(self, account: Account, at: float | None = None) -> None:
        """The first token of the request arrived, now or at a `time.perf_counter` that was noted."""
        if account.first_token is None:
            account.first_token = time.perf_counter() if at is None else at
            self._cells_of(account.model).queued.value -= 1

    def moved(self, account: Account, *, ongoing: bool) -> None:
        """A stream of the request goes to another worker; `ongoing`: behind tokens that it has already."""
        kind = "ongoing_request" if ongoing else "new_request"
        self._metrics.cell(FE + "model_migration_total", account.model, kind).add()

    def too_long_to_move(self, account: Account) -> None:
        """A stream of the request lost its worker and has grown too long to be moved."""
        self._metrics.cell(FE + "model_migration_max_seq_len_exceeded_total", account.model).add()

    def _count(self, account: Account, status: str, error_type: str) -> None:
        metrics, model = self._metrics, account.model
        metrics.cell(FE + "requests_total", model, account.endpoint, _kind(account), status, error_type).add()
        if error_type == "overload":
            metrics.cell(FE + "model_rejection_total", model, account.endpoint).add()
        if not model:
            return
        cells = self._cells_of(model)
        cells.active.value -= 1
        cells.inflight.value -= 1
        cells.duration.observe(time.perf_counter() - account.started)
        self._stages.count(account.started, account.prepared, account.routed, account.first_token, account.last_step_s)
        if account.first_token is None:
            cells.queued.value -= 1
            return
        self._count_routing(account, account.first_token)
        cells.ttft.observe(account.first_token - account.started)
        cells.itl.observe_all(account.gaps)
        cells.isl.observe(account.prompt_tokens)
        cells.osl.observe(account.output_tokens)
        cells.cached.observe(account.cached_tokens)
        cells.output.value += account.output_tokens
        self._stages.detokenized.value += account.output_tokens

    def _count_routing(self, account: Account, first_token: float) -> None:
        routed, model = account.routed, account.model
        if (share := routed.kv_hit_rate) is not None:
            self._metrics.histogram(FE + "kv_hit_rate", model).observe(share)
        if routed.prefilled_at is not None and first_token >= routed.prefilled_at:
            transfer_s = first_token - routed.prefilled_at
            self._metrics.histogram(FE + "kv_transfer_estimated_latency_seconds", model).observe(transfer_s)
        if routed.worker is not None:
            gaps = account.gaps
            self.marks[routed.worker.worker, routed.worker.rank] = WorkerMark(
                first_token - account.started, sum(gaps) / len(gaps) if gaps else 0.0, account.prompt_tokens
            )

    def _cells_of(self, model: str) -> "_ModelCells":
        cells = self._cells.get(model)
        if cells is None:
            cells = self._cells[model] = _ModelCells(self._metrics, model)
        return cells


class OpenAccount:
    """The time in which a request is counted as active."""

    __slots__ = ("_account", "_accounts")

    def __init__(self, accounts: Accounts, account: Account) -> None:
        self._accounts, self._account = accounts, account

    def __enter__(self) -> Account:
        self._accounts.open(self._account)
        return self._account

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accounts.close(self._account, error)


class _ModelCells:
    """The series of one model that every request touches, looked up once."""

    __slots__ = ("active", "cached", "duration", "inflight", "isl", "itl", "osl", "output", "queued", "ttft")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.active = metrics.cell(FE + "active_requests", model)
        self.inflight = metrics.cell(FE + "inflight_requests", model)
        self.queued = metrics.cell(FE + "queued_requests", model)
        self.duration = metrics.histogram(FE + "request_duration_seconds", model)
        self.ttft = metrics.histogram(FE + "time_to_first_token_seconds", model)
        self.itl = metrics.histogram(FE + "inter_token_latency_seconds", model)
        self.isl = metrics.histogram(FE + "input_sequence_tokens", model)
        self.osl = metrics.histogram(FE + "output_sequence_tokens", model)
        self.cached = metrics.histogram(FE + "cached_tokens", model)
        self.output = metrics.cell(FE + "output_tokens_total", model)


def _produced(account: Account) -> int:
    return account.output_tokens if account.produced is None else account.produced()


def _ended(account: Account, status: str, error: BaseException | None) -> EndedRequest:
    return EndedRequest(
        id=account.id,
        model=account.model,
        endpoint=account.endpoint,
        stream=account.stream,
        started=account.started,
        first_token=account.first_token,
        ended=time.perf_counter(),
        prompt_tokens=account.prompt_tokens,
        output_tokens=account.output_tokens,
        cached_tokens=account.cached_tokens,
        workers=tuple(account.workers),
        status=status,
        error=str(error) if isinstance(error, ApplianceError) else "",
    )


def _kind(account: Account) -> str:
    return "stream" if account.stream else "unary"


def _error_type(error: ApplianceError) -> str:
    return next((name for kind, name in ERROR_TYPES if isinstance(error, kind)), "internal")

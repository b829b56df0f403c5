"""What each request does and did: running ones for `status`, and those that have ended, which metrics are made of."""

import time
from collections import Counter

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
from appliance.frontend.account import Account
from appliance.frontend.ended_requests import EndedRequests
from appliance.frontend.request_metrics import RequestMetrics, WorkerMark
from appliance.telemetry.cells import Metrics

__all__ = ["Account", "Accounts"]

BATCH = 128
"""Ended requests that are counted at once. One at a time they cost three times as much."""

ERROR_TYPES: tuple[tuple[type[ApplianceError], str], ...] = (
    (InvalidRequest, "validation"),
    (NotFound, "not_found"),
    (Overloaded, "overload"),
    (ModelNotReady, "overload"),
    (NotImplementedHere, "not_implemented"),
)


class Accounts:
    """All requests of this front end. The metrics are those of now only after `tell_metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._active: dict[RequestId, Account] = {}
        self._metrics = RequestMetrics(metrics)
        self._fresh: list[Account] = []
        """Those that have ended since the last `_count`."""
        self._ended = EndedRequests()
        self._last_end: dict[str, float] = {}
        self._on_end = self._close

    @property
    def active(self) -> int:
        return len(self._active)

    @property
    def marks(self) -> dict[tuple[str, int], WorkerMark]:
        """What the last request of each worker's rank was like."""
        return self._metrics.marks

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
                "output_tokens": a.produced_now(),
            }
            for a in self._active.values()
        ]

    def use(self) -> dict[str, tuple[int, float]]:
        """Of each model that requests named: running ones, and seconds since the last one ended, negative if none."""
        now, running = time.perf_counter(), Counter(account.model for account in self._active.values())
        names = [name for name in {**self._last_end, **running} if name]
        return {name: (running[name], now - self._last_end[name] if name in self._last_end else -1.0) for name in names}

    def ended(self) -> list[dict[str, object]]:
        """The last requests that have ended, newest first, as plain data."""
        self._count()
        return self._ended.rows()

    def load(self) -> dict[str, object]:
        """Counts since the start with what runs included, and the state of now; who asks twice has rates."""
        self._count()
        running = list(self._active.values())
        return {
            "requests": self._ended.count,
            "failed": self._ended.failed,
            "output_tokens": self._ended.output_tokens + sum(account.produced_now() for account in running),
            "active": len(running),
            "waiting": sum(not account.workers for account in running),
            "ttfts_s": self._ended.recent_ttfts(),
        }

    def stages(self) -> Counter[tuple[str, str]]:
        """Running requests without a token yet, by stage and phase."""
        waiting = [account.routed for account in self._active.values() if not account.produced_now()]
        return Counter((routed.stage, routed.phase) for routed in waiting)

    def tell_metrics(self) -> None:
        """Bring the metrics up to now, for somebody who is about to read them."""
        self._count()
        self._metrics.tell_running(self._active.values())

    def request(self, id: RequestId, endpoint: PublicEndpoint) -> Account:
        """Begin to count a request. The account is a context manager: leaving its block, by any way, is the end."""
        account = Account(id=id, endpoint=endpoint, started=time.perf_counter(), on_end=self._on_end)
        self._active[id] = account
        return account

    def _close(self, account: Account, error: BaseException | None) -> None:
        del self._active[account.id]
        account.ended = self._last_end[account.model] = time.perf_counter()
        if error is not None or account.error is not None:
            account = _failed(account, error or account.error)
        else:
            account.status = "success"
        if account.gaps:
            self._metrics.count_gaps(account)  # they may be many, and are not kept
        account.routed.trace = None
        self._fresh.append(account)
        if len(self._fresh) >= BATCH:
            self._count()

    def moved(self, account: Account, *, ongoing: bool) -> None:
        """A stream of the request goes to another worker; `ongoing`: behind tokens that it has already."""
        self._metrics.count_move(account, "ongoing_request" if ongoing else "new_request")

    def too_long_to_move(self, account: Account) -> None:
        """A stream of the request lost its worker and has grown too long to be moved."""
        self._metrics.count_too_long(account)

    def _count(self) -> None:
        fresh, self._fresh = self._fresh, []
        self._ended.add(*fresh)
        self._metrics.count(fresh)


def _failed(account: Account, error: BaseException | None) -> Account:
    """What to keep of a request that failed: not the error itself, which holds on to all that was there."""
    account.status = _status(error)
    account.complaint = str(error) if isinstance(error, ApplianceError) else ""
    return msgspec.structs.replace(account, error=None)


def _status(error: BaseException | None) -> str:
    if isinstance(error, trio.Cancelled):
        return "cancelled"
    return next((name for kind, name in ERROR_TYPES if isinstance(error, kind)), "internal")

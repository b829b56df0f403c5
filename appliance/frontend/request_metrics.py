"""The metrics of requests. Those that have ended are counted many at once, gauges of running ones are read off."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from appliance.frontend.account import Account
from appliance.frontend.stages import StageCells
from appliance.telemetry.cells import Metrics

FE = "dynamo_frontend_"


class WorkerMark(NamedTuple):
    """One request, as its worker's metrics show it."""

    ttft_s: float
    itl_s: float
    """Mean gap between its tokens."""
    prompt_tokens: int


class RequestMetrics:
    """Turns accounts into series, by model."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._cells: dict[str, _ModelCells] = {}
        self._stages = StageCells(metrics)
        self.marks: dict[tuple[str, int], WorkerMark] = {}
        """What the last request of each worker's rank was like."""

    def count(self, ended: Sequence[Account]) -> None:
        """These have ended, in this order, and were not counted before. Their gaps are counted by `count_gaps`."""
        by_model: dict[str, list[Account]] = {}
        for one in ended:
            by_model.setdefault(one.model, []).append(one)
        for model, requests in by_model.items():
            self._count_ends(model, requests)
            if model:  # empty: it could not be decoded
                cells = self._cells_of(model)
                cells.duration.observe_all([one.ended - one.started for one in requests])
                self._stages.count([one for one in requests if one.prepared is not None])
                self._count_answers(cells, [one for one in requests if one.first_token is not None])

    def count_gaps(self, account: Account) -> None:
        """Count the times between the tokens of a request that has ended, and keep only their mean."""
        gaps, account.gaps = account.gaps, ()
        account.itl_s = sum(gaps) / len(gaps)
        self._cells_of(account.model).itl.observe_all(gaps)

    def tell_running(self, running: Iterable[Account]) -> None:
        """Set the gauges of requests, of all models that were ever asked for something."""
        counts, queued = Counter[str](), Counter[str]()
        for one in running:
            counts[one.model] += 1
            queued[one.model] += not one.produced_now()
        for model in {**self._cells, **counts}:
            if model:
                cells = self._cells_of(model)
                cells.active.value = cells.inflight.value = counts[model]
                cells.queued.value = queued[model]

    def count_move(self, account: Account, kind: str) -> None:
        """A stream of the request goes to another worker."""
        self._metrics.cell(FE + "model_migration_total", account.model, kind).add()

    def count_too_long(self, account: Account) -> None:
        """A stream of the request would have gone to another worker."""
        self._metrics.cell(FE + "model_migration_max_seq_len_exceeded_total", account.model).add()

    def _count_ends(self, model: str, requests: list[Account]) -> None:
        cell = self._metrics.cell
        ends = Counter([(one.endpoint, one.stream, one.status) for one in requests])
        for (endpoint, streamed, status), times in ends.items():
            kind = "stream" if streamed else "unary"
            outcome = ("success", "") if status == "success" else ("error", status)
            cell(FE + "requests_total", model, endpoint, kind, *outcome).add(times)
            if status == "overload":
                cell(FE + "model_rejection_total", model, endpoint).add(times)
            elif status == "cancelled":
                cell(FE + "disconnected_clients").add(times)
                cell(FE + "model_cancellation_total", model, endpoint, kind).add(times)

    def _count_answers(self, cells: "_ModelCells", answered: list[Account]) -> None:
        ttfts = [one.first_token - one.started for one in answered if one.first_token is not None]
        outputs = [one.output_tokens for one in answered]
        cells.ttft.observe_all(ttfts)
        cells.isl.observe_all([one.prompt_tokens for one in answered])
        cells.osl.observe_all(outputs)
        cells.cached.observe_all([one.cached_tokens for one in answered])
        cells.output.value += sum(outputs)
        self._stages.detokenized.value += sum(outputs)
        self._count_routing(answered)
        last = {(one.routed.worker, one.routed.rank): (one, ttft) for one, ttft in zip(answered, ttfts, strict=True)}
        for (worker, rank), (one, ttft) in last.items():
            if worker is not None:
                self.marks[worker, rank] = WorkerMark(ttft, one.itl_s, one.prompt_tokens)

    def _count_routing(self, answered: list[Account]) -> None:
        shares = [share for one in answered if (share := one.routed.kv_hit_rate) is not None]
        if shares:
            self._metrics.histogram(FE + "kv_hit_rate", answered[0].model).observe_all(shares)
        split = [one for one in answered if one.routed.prefilled_at is not None]
        transfers = [(one.first_token or 0.0) - (one.routed.prefilled_at or 0.0) for one in split]
        if transfers := [taken_s for taken_s in transfers if taken_s >= 0]:
            name = FE + "kv_transfer_estimated_latency_seconds"
            self._metrics.histogram(name, answered[0].model).observe_all(transfers)

    def _cells_of(self, model: str) -> "_ModelCells":
        cells = self._cells.get(model)
        if cells is None:
            cells = self._cells[model] = _ModelCells(self._metrics, model)
        return cells


class _ModelCells:
    """The series of one model, looked up once."""

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

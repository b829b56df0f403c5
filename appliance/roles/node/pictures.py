"""The picture that front ends get: workers, models, keys, settings. Pure: facts in, one message out."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.core.identity import ModelName, WorkerId
from appliance.core.records import KeyRecord, ModelPhase, ModelRecord, StoredObject, WorkerRecord
from appliance.core.settings import Settings
from appliance.discovery.model_phase import can_generate
from appliance.graph.arguments import flag_value
from appliance.graph.documents import document_of
from appliance.roles.model_names import served_name, worker_launches
from appliance.supervision.views import WorkerView
from appliance.wire.bus_messages import Picture

OTHER_FOLDERS = re.compile(r"(?<!\S)/(?:[^\s/]+/)+")


def compose_picture(
    graphs: Iterable[StoredObject],
    views: Sequence[WorkerView],
    keys: Sequence[KeyRecord],
    settings: Settings,
    draining: bool,
) -> Picture:
    """All that a front end needs to know at this moment."""
    workers = [_worker(view) for view in views if view.instance.type != "frontend"]
    front_ends = sum(view.instance.type == "frontend" for view in views)
    known = models(graphs, workers, views, enforce_disagg=settings.router.enforce_disagg)
    return Picture(workers, known, list(keys), settings, draining, front_ends=max(1, front_ends))


def models(
    graphs: Iterable[StoredObject],
    workers: Sequence[WorkerRecord],
    views: Sequence[WorkerView],
    *,
    enforce_disagg: bool = False,
) -> list[ModelRecord]:
    """Every name that a stored graph serves, and every name that a worker has shown, with its phase.

    `enforce_disagg`: decode workers alone do not make a model ready. Prefill workers alone never do.
    """
    reasons = {view.id: _without_paths(view) for view in views}
    names: dict[ModelName, int] = {}
    for graph in graphs:
        for name in _declared(graph):
            names[name] = min(names.get(name, int(graph.created_at)), int(graph.created_at))
    for worker in workers:
        if worker.card is not None:
            names.setdefault(worker.card.name, int(min((v.since for v in views if v.id == worker.id), default=0)))
    return [_model(name, created, workers, reasons, enforce_disagg) for name, created in names.items()]


def _without_paths(view: WorkerView) -> str:
    """The reason of a worker's phase for clients: files by their name only."""
    model = flag_value(view.instance.argv, "--model") or ""
    folder = str(Path(model).parent)
    reason = _loading(view) or view.reason
    named = reason.replace(f"{folder}/", "") if folder.startswith("/") else reason
    return OTHER_FOLDERS.sub("", named)


def _loading(view: WorkerView) -> str:
    """How far a starting worker is, in words; empty for any other."""
    if view.phase != "starting" or view.progress is None:
        return ""
    at, text = view.progress.fraction, view.progress.text
    return f"{text}: {at:.0%} done" if at >= 0 else text


def _declared(graph: StoredObject) -> list[ModelName]:
    """Names that a graph's worker components serve, also with no replica."""
    return [ModelName(name) for argv in worker_launches(document_of(graph)) if (name := served_name(argv))]


def _model(
    name: ModelName,
    created: int,
    workers: Sequence[WorkerRecord],
    reasons: dict[WorkerId, str],
    enforce_disagg: bool,
) -> ModelRecord:
    own = [worker for worker in workers if worker.model == name]
    cards = [worker.card for worker in own if worker.card is not None]
    phase: ModelPhase = "cold"
    reason = "no replica is wanted"
    if can_generate([worker for worker in own if worker.phase == "ready"], enforce_disagg=enforce_disagg):
        phase, reason = "ready", ""
    elif own:
        failed = all(worker.phase == "failed" for worker in own)
        phase, reason = ("failed" if failed else "starting"), reasons.get(own[-1].id, "")
    return ModelRecord(
        name=name,
        phase=phase,
        created=created,
        reason=reason,
        context_length=cards[0].context_length if cards else None,
    )


def _worker(view: WorkerView) -> WorkerRecord:
    name = view.card.name if view.card is not None else served_name(view.instance.argv) or ""
    return WorkerRecord(
        id=view.id,
        model=ModelName(name),
        phase=view.phase,
        address=view.address,
        graph=view.instance.graph,
        component=view.instance.component,
        card=view.card,
    )

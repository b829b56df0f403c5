"""What front ends are told of models and workers."""

import dataclasses

import msgspec
import pytest

from appliance.core.identity import ModelName, WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import StoredObject, WorkerPhase
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings, Settings
from appliance.graph.documents import stored_object
from appliance.graph.serve import ServeModel, build_serve_graph
from appliance.roles.model_names import default_served_name
from appliance.roles.node.pictures import compose_picture
from appliance.supervision.views import LoadProgress, WorkerView
from appliance.wire.bus_messages import Picture

ARGV = ("worker", "--engine", "mocker", "--model", "m")
CARD = ModelCard(name=ModelName("m"), context_length=64, engine="mocker")


def view(phase: WorkerPhase, *, card: ModelCard | None = None, reason: str = "") -> WorkerView:
    instance = ComponentInstance(graph="g", component="worker", index=0, type="worker", argv=ARGV, spec_hash="x")
    return WorkerView(
        id=WorkerId(f"w-{phase}"),
        instance=instance,
        phase=phase,
        since=0.0,
        pid=1,
        address="/run/w.sock",
        restarts=0,
        reason=reason,
        progress=None,
        card=card,
    )


def graph() -> StoredObject:
    return stored_object(build_serve_graph([ServeModel(model="m", engine="mocker")], name="g"))


def picture(*views: WorkerView) -> Picture:
    return compose_picture([graph()], views, [], Settings(), False)


@pytest.mark.parametrize(
    ("views", "phase"),
    [
        ([], "cold"),
        ([view("starting")], "starting"),
        ([view("backoff")], "starting"),
        ([view("failed", reason="bad file")], "failed"),
        ([view("ready", card=CARD), view("failed")], "ready"),
        ([view("failed"), view("starting")], "starting"),
    ],
)
def test_phase_of_a_model(views: list[WorkerView], phase: str) -> None:
    (model,) = picture(*views).models
    assert (model.name, model.phase) == ("m", phase)


def test_a_failed_model_says_why() -> None:
    assert picture(view("failed", reason="bad file")).models[0].reason == "bad file"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("model /data/my models/x.gguf is truncated", "model x.gguf is truncated"),
        ("cannot read /opt/lib/engine.so: denied", "cannot read engine.so: denied"),
        ("3 of 4 and/or more", "3 of 4 and/or more"),
    ],
)
def test_reasons_for_clients_name_no_folder(reason: str, shown: str) -> None:
    instance = dataclasses.replace(
        view("failed").instance, argv=("worker", "--served-model-name", "m", "--model", "/data/my models/x.gguf")
    )
    failed = dataclasses.replace(view("failed", reason=reason), instance=instance)
    assert picture(failed).models[0].reason == shown


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [(0.428, "downloading org/m, about 2 min left: 43% done"), (-1.0, "downloading org/m, about 2 min left")],
)
def test_a_starting_model_says_how_far_it_is(fraction: float, shown: str) -> None:
    progress = LoadProgress(fraction=fraction, text="downloading org/m, about 2 min left")
    starting = dataclasses.replace(view("starting", reason="wanted"), progress=progress)
    assert picture(starting).models[0].reason == shown


def test_workers_without_a_card_have_the_declared_name() -> None:
    (worker,) = picture(view("starting")).workers
    assert worker.model == "m"
    assert worker.card is None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("/data/llama-3.gguf", "llama-3"),
        ("/data/llama", "llama"),
        ("org/name", "org/name"),
        ("org/name@main:Q8_0", "org/name"),
        ("made-up", "made-up"),
    ],
)
def test_default_names(model: str, name: str) -> None:
    assert default_served_name(model) == name


@pytest.mark.parametrize(
    ("roles", "enforce", "phase"),
    [
        (["prefill"], False, "starting"),
        (["decode"], False, "ready"),
        (["decode"], True, "starting"),
        (["prefill", "decode"], True, "ready"),
        (["aggregated"], True, "ready"),
        (["aggregated", "decode"], True, "ready"),
        (["prefill", "aggregated"], True, "ready"),
    ],
)
def test_split_model_is_ready_with_the_workers_that_can_answer(roles: list[str], enforce: bool, phase: str) -> None:
    views = [view("ready", card=msgspec.structs.replace(CARD, role=role)) for role in roles]
    settings = Settings(router=RouterSettings(enforce_disagg=enforce))
    assert compose_picture([graph()], views, [], settings, False).models[0].phase == phase


def test_decode_workers_that_compute_no_prompts_wait_for_prefill_workers() -> None:
    decode = view("ready", card=msgspec.structs.replace(CARD, role="decode", needs_prefill=True))
    prefill = view("ready", card=msgspec.structs.replace(CARD, role="prefill"))
    assert picture(decode).models[0].phase == "starting"
    assert picture(decode, prefill).models[0].phase == "ready"

"""What a front end without a supervisor says of itself."""

from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import ModelNotFound, NotFound, UsageError
from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.requests import ModelCard
from appliance.core.settings import HttpSettings, Settings
from appliance.discovery.roster import Roster, SocketFile
from appliance.frontend.control.views import BusyThresholdOrder
from appliance.roles.frontend_serving import FrontEnd
from appliance.roles.frontend_standalone import check_reachable
from appliance.roles.frontend_standalone_view import StandaloneView
from appliance.wire.bus_messages import Picture

CARD = ModelCard(name=ModelName("m"), context_length=64, engine="mocker")
FILE = SocketFile(Path("/w/a.sock"), 1, 10**9)
A = WorkerId("a")


class RecordingFrontEnd(FrontEnd):
    """Serves nothing, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("dynamo-frontend-0", Settings())
        self.told: list[Picture] = []
        self.linked: set[WorkerId] = set()

    def apply(self, picture: Picture) -> None:
        self.told.append(picture)

    def placeable(self) -> set[WorkerId]:
        return self.linked


class Scene:
    def __init__(self) -> None:
        self.roster = Roster(keep_s=1.0)
        self.front_end = RecordingFrontEnd()
        self.view = StandaloneView(self.front_end, self.roster, [], Settings())

    def tell(self) -> None:
        self.view.take(self.roster.workers(), self.roster.models())

    def join(self) -> None:
        self.roster.look({A: FILE}, 0.0)
        self.roster.learn(A, FILE, CARD, 0.0)
        self.tell()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_it_is_healthy_from_the_first_ready_model_until_it_drains(scene: Scene) -> None:
    assert scene.view.health().status == "starting"
    scene.join()
    assert (scene.view.health().status, scene.view.has_all_linked()) == ("starting", False)
    scene.front_end.linked = {A}
    assert scene.view.has_all_linked()
    health = scene.view.health()
    (instance,) = health.instances
    assert (health.status, instance.instance_id, instance.transport) == (
        "healthy",
        instance_number(A),
        {"unix": "a.sock"},
    )
    scene.roster.lose(A)
    scene.tell()
    assert (scene.view.health().status, scene.view.health().instances) == ("healthy", [])
    scene.view.draining = True
    assert scene.view.health().status == "draining"


def test_what_is_missing_is_named_without_folders(scene: Scene) -> None:
    assert scene.view.health().message == "no worker is ready yet"
    scene.roster.look({A: FILE}, 0.0)
    scene.roster.fail(A, FILE, "cannot connect to /w/a.sock: refused")
    assert scene.view.health().message == "no worker is ready; those that do not answer: a"


async def test_metrics_count_the_workers_of_now(scene: Scene) -> None:
    scene.join()
    assert 'appliance_workers{model="m",phase="ready"} 1' in (await scene.view.metrics()).decode()
    scene.roster.lose(A)
    scene.tell()
    text = (await scene.view.metrics()).decode()
    assert 'appliance_workers{model="m",phase="backoff"} 1' in text
    assert 'phase="ready"' not in text
    assert await scene.view.measured_engines() == []
    with pytest.raises(NotFound):
        await scene.view.engine_metrics("a")


async def test_thresholds_reach_the_front_end(scene: Scene) -> None:
    scene.join()
    default = scene.view.busy_thresholds()[0]
    changed = await scene.view.set_busy_threshold(BusyThresholdOrder(model="m", active_prefill_tokens_threshold=5))
    assert changed.active_prefill_tokens_threshold == 5
    assert changed.active_decode_blocks_threshold == default.active_decode_blocks_threshold
    assert scene.front_end.told[-1].busy_thresholds == scene.view.busy_thresholds() == [changed]
    with pytest.raises(ModelNotFound, match="models here: m"):
        await scene.view.set_busy_threshold(BusyThresholdOrder(model="x"))


@pytest.mark.parametrize(
    ("more", "has_keys"),
    [({}, False), ({"host": "0.0.0.0"}, True), ({"host": "0.0.0.0", "insecure_no_auth": True}, False)],
)
def test_a_port_with_keys_or_for_nobody_else_may_be_opened(more: dict[str, Any], has_keys: bool) -> None:
    check_reachable(HttpSettings(**more), has_keys=has_keys)


def test_a_port_for_others_without_keys_is_refused() -> None:
    with pytest.raises(UsageError, match="--api-key-file"):
        check_reachable(HttpSettings(host="0.0.0.0"), has_keys=False)

"""Settings and thresholds that change while the appliance runs: what is refused, what is told, what is remembered."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.core.errors import ModelNotFound, UsageError
from appliance.core.identity import ModelName
from appliance.core.records import BusyThreshold, ModelRecord
from appliance.core.setting_keys import KEYS
from appliance.core.settings import Settings
from appliance.frontend.control.views import BusyThresholdOrder
from appliance.roles.node.board import Board
from appliance.roles.node.reload import CHANGEABLE, LIVE
from appliance.roles.node.tuning import Tuning
from appliance.state.memory import MemoryStateStore


class FakeBoard(SimpleNamespace):
    """The part of the board that is tuned."""

    def models(self) -> list[ModelRecord]:
        return [ModelRecord(name=ModelName(name), phase="cold", created=1) for name in ("m", "other")]

    def change_settings(self, settings: Settings) -> None:
        self.settings = settings

    def set_busy_thresholds(self, thresholds: list[BusyThreshold]) -> None:
        self.busy_thresholds = thresholds


@pytest.fixture
def board() -> FakeBoard:
    return FakeBoard(settings=Settings(), busy_thresholds=[])


@pytest.fixture
def store() -> MemoryStateStore:
    return MemoryStateStore()


def tuning_of(board: FakeBoard, store: MemoryStateStore, used: list[Settings] | None = None) -> Tuning:
    return Tuning(cast("Board", board), store, (used if used is not None else []).append)


async def ledger(store: MemoryStateStore) -> list[dict[str, Any]]:
    events = await store.read(lambda reader: reader.events(None, 10))
    return [{"subject": e.subject, "action": e.action, **e.inputs} for e in events]


def test_all_router_settings_can_change() -> None:
    assert {key.key for key in KEYS.values() if key.group == "router"} <= CHANGEABLE < LIVE


async def test_a_change_is_used_and_noted(board: FakeBoard, store: MemoryStateStore) -> None:
    used: list[Settings] = []
    changed = await tuning_of(board, store, used).change_config({"router.mode": "kv", "router.queue_threshold": "none"})
    assert changed == {
        "router.mode": {"old": "least-loaded", "new": "kv"},
        "router.queue_threshold": {"old": 4.0, "new": None},
    }
    assert used == [board.settings]
    assert (board.settings.router.mode, board.settings.router.queue_threshold) == ("kv", None)
    assert await ledger(store) == [
        {
            "subject": "appliance",
            "action": "configure",
            "router.mode": "least-loaded -> kv",
            "router.queue_threshold": "4.0 -> None",
        }
    ]


async def test_the_same_value_is_no_change(board: FakeBoard, store: MemoryStateStore) -> None:
    assert await tuning_of(board, store).change_config({"router.mode": board.settings.router.mode}) == {}
    assert await ledger(store) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("router.mod", "kv", "did you mean 'router.mode'"),
        ("http.port", "1", "restart"),
        ("http.tls_cert_path", "/x", "restart"),
        ("router.mode", "fast", "must be one of"),
        ("router.ttl_s", "-1", "at least 0"),
        ("router.active_prefill_tokens_threshold", "9" * 30, "cannot use"),
        ("router.track_output_blocks", "perhaps", "true or false"),
        ("router.prefill_load_model", "aic", "queue_policy fcfs"),
    ],
)
async def test_a_bad_change_changes_nothing(
    board: FakeBoard, store: MemoryStateStore, name: str, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        await tuning_of(board, store).change_config(
            {"router.temperature": "1", "router.queue_policy": "wspt", name: text}
        )
    assert board.settings == Settings()
    assert await ledger(store) == []


async def test_thresholds_are_the_settings_until_they_are_set(board: FakeBoard, store: MemoryStateStore) -> None:
    tuning = tuning_of(board, store)
    default = BusyThreshold(
        model="m",
        active_decode_blocks_threshold=1.0,
        active_prefill_tokens_threshold=10_000_000,
        active_prefill_tokens_threshold_frac=10.0,
    )
    assert tuning.thresholds()[0] == default
    assert await tuning.set_threshold(BusyThresholdOrder(model="m")) == default
    assert await ledger(store) == []
    changed = await tuning.set_threshold(
        BusyThresholdOrder(model="m", active_decode_blocks_threshold=0.5, active_prefill_tokens_threshold=None)
    )
    assert (changed.active_decode_blocks_threshold, changed.active_prefill_tokens_threshold) == (0.5, None)
    assert changed.active_prefill_tokens_threshold_frac == 10.0
    assert (board.busy_thresholds, tuning.thresholds()[0]) == ([changed], changed)
    assert (await ledger(store))[0] == {
        "subject": "model/m",
        "action": "threshold",
        "active_decode_blocks_threshold": "1.0 -> 0.5",
        "active_prefill_tokens_threshold": "10000000 -> None",
    }
    with pytest.raises(ModelNotFound, match="m, other"):
        await tuning.set_threshold(BusyThresholdOrder(model="x"))


async def test_thresholds_outlive_a_restart(board: FakeBoard, store: MemoryStateStore) -> None:
    changed = await tuning_of(board, store).set_threshold(
        BusyThresholdOrder(model="m", active_prefill_tokens_threshold=7)
    )
    fresh = FakeBoard(settings=Settings(), busy_thresholds=[])
    await tuning_of(fresh, store).restore()
    assert fresh.busy_thresholds == [changed]

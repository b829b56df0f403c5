"""What the node knows at this moment, gathered from store, supervision and front ends; every view reads it here."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from appliance.core.records import BusyThreshold, KeyRecord, ModelRecord
from appliance.core.settings import Settings
from appliance.roles.node.desired import DesiredState
from appliance.roles.node.pictures import compose_picture
from appliance.roles.node.residence_notes import ResidenceNote, with_residence
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from appliance.wire.bus_messages import Picture


class Board:
    """The facts of one node. Reading it costs nothing but the composing."""

    def __init__(
        self, settings: Settings, desired: DesiredState, supervisor: Supervisor, gpus: GpuLedger, state_dir: Path
    ) -> None:
        self.settings = settings
        self.gpus = gpus
        self.state_dir = state_dir
        self.started_at = time.time()
        self.keys: list[KeyRecord] = []
        self.busy_thresholds: list[BusyThreshold] = []
        self.residence: Callable[[], Mapping[str, ResidenceNote]] = dict
        """What there is to say about models that are not loaded."""
        self.adapters: Callable[[list[ModelRecord]], list[ModelRecord]] = list
        """Adds the LoRA adapters to the models."""
        self.knows_what_to_load: Callable[[], bool] = lambda: True
        self.adapters_are_brought: Callable[[], bool] = lambda: True
        """Whether no worker is held back because it has yet to load LoRA adapters."""
        self.as_front_ends_see: Callable[[list[WorkerView]], list[WorkerView]] = list
        """Views without workers that sleep; those that have yet to load adapters are starting."""
        self.shown: Callable[[WorkerView], tuple[str, float] | None] = lambda _: None
        """What to say of a worker in place of the phase of its process, and since when in unix seconds."""
        self.draining = False
        self.reloads = 0
        """How often the settings were read anew."""
        self.serving = False
        self.was_ready = False
        """Everything wanted at the start has served at the same time; later failures do not take that back."""
        self._desired, self._supervisor = desired, supervisor

    def set_keys(self, keys: list[KeyRecord]) -> None:
        """Replace the keys that open the public port."""
        self.keys = keys
        self._supervisor.note_change()

    def set_settings(self, settings: Settings) -> None:
        """Replace the settings that may change while we run; front ends also read their files anew."""
        self.settings = settings
        self.reloads += 1
        self._supervisor.note_change()

    def change_settings(self, settings: Settings) -> None:
        """Replace settings that changed one by one: no file is to be read anew."""
        self.settings = settings
        self._supervisor.note_change()

    def set_busy_thresholds(self, thresholds: list[BusyThreshold]) -> None:
        """Replace the thresholds of models that do not take those of the settings."""
        self.busy_thresholds = thresholds
        self._supervisor.note_change()

    def set_serving(self) -> None:
        """The control app answers from now on."""
        self.serving = True
        self._supervisor.note_change()

    def set_draining(self) -> None:
        """From now on `/health` says so."""
        self.draining = True
        self._supervisor.note_change()

    def picture(self) -> Picture:
        """What front ends are told."""
        graphs = self._desired.graphs.values()
        views = self.as_front_ends_see(self._supervisor.views())
        composed = compose_picture(graphs, views, self.keys, self.settings, self.draining)
        return msgspec.structs.replace(
            composed,
            models=self.adapters(with_residence(composed.models, self.residence())),
            reloads=self.reloads,
            busy_thresholds=self.busy_thresholds,
        )

    def models(self) -> list[ModelRecord]:
        """All served names."""
        return self.picture().models

    def workers(self) -> list[WorkerView]:
        """All processes but front ends."""
        return [view for view in self._supervisor.views() if view.instance.type != "frontend"]

    def front_ends(self) -> list[WorkerView]:
        """The processes on the public port."""
        return [view for view in self._supervisor.views() if view.instance.type == "frontend"]

    def is_ready(self) -> bool:
        """We serve, and every wanted process does or was given up; of the workers at least one serves.

        One stored graph that cannot run must not keep a machine from being ready for all the others.
        """
        wanted = [one for graph in self._desired.graphs.values() for one in self._desired.expected_of(graph)]
        keys = {one.key for one in wanted if one.type != "frontend"}
        settled = {view.key for view in self.workers() if view.phase in ("ready", "failed")}
        some = not keys or any(view.phase == "ready" for view in self.workers())
        front_ends = self.front_ends()
        serving = self.serving and bool(front_ends) and all(view.phase == "ready" for view in front_ends)
        brought = self.was_ready or self.adapters_are_brought()
        return serving and self.knows_what_to_load() and keys <= settled and some and brought

    def failures(self) -> list[WorkerView]:
        """Processes that were given up."""
        return [view for view in self._supervisor.views() if view.phase == "failed"]

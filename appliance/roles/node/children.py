"""How the supervisor calls its own executable for workers and front ends, and what it tells them."""

import os
from pathlib import Path

from appliance.core.config import (
    STATE_DIR,
    ChildEnvironment,
    environment,
    hub_token_variables,
    settings_environment,
    without_child_variables,
)
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.paths import Paths
from appliance.core.settings import Settings
from appliance.graph.arguments import flag_value
from appliance.models.hub.known_sizes import KnownSizes
from appliance.models.hub.reference import likely_reference
from appliance.models.sizes import weights_bytes
from appliance.models.store import ModelStore
from appliance.roles.node.gpu_demand import tensor_parallel_args
from appliance.roles.node.public_sockets import PublicSockets
from appliance.roles.options import SERVERS
from appliance.roles.own_executable import frozen, own_command
from appliance.supervision.environment import child_environment
from appliance.supervision.gpu_placing import LedgerPlacing
from appliance.supervision.process import LaunchPlan

GB = 1e9


class Launcher:
    """Makes the launch plan of one incarnation: argv, environment, inherited sockets, address."""

    def __init__(self, settings: Settings, paths: Paths, sockets: PublicSockets) -> None:
        self._settings, self._paths, self._sockets = settings, paths, sockets
        self._gpus: LedgerPlacing | None = None
        self._base = without_child_variables(environment())

    def __call__(self, instance: ComponentInstance, worker: WorkerId) -> LaunchPlan:
        fds = self._sockets.of(instance.index) if instance.type == "frontend" else ()
        link = None if instance.type == "frontend" else self._paths.link_socket(worker)
        child = ChildEnvironment(
            bus_socket=self._paths.bus_socket,
            link_socket=link,
            worker_id=worker,
            parent_pid=os.getpid(),
            listen_fds=fds,
        )
        place = {STATE_DIR: str(self._paths.state_dir)}
        token = hub_token_variables(self._base) if _is_from_hub(instance) else {}
        extra = settings_environment(self._settings) | place | token | instance.env | child.variables()
        more, gpus = self._gpu_parts(instance, worker)
        return LaunchPlan(
            argv=own_command(*instance.argv, *more),
            env=child_environment(self._base, extra | gpus, frozen=frozen(), foreign=False),
            pass_fds=fds,
            address=str(link) if link else "",
        )

    def place_on(self, gpus: LedgerPlacing) -> None:
        """Workers that are started from now on see the GPUs that they were given, and no others."""
        self._gpus = gpus

    def _gpu_parts(self, instance: ComponentInstance, worker: WorkerId) -> tuple[tuple[str, ...], dict[str, str]]:
        """Arguments and variables by which a worker finds its GPUs."""
        if self._gpus is None or instance.argv[0] != "worker":
            return (), {}
        grant = self._gpus.grant(worker)
        more = tensor_parallel_args(instance, len(grant.uuids)) if grant else ()
        return more, self._gpus.environment(worker)

    def use(self, settings: Settings) -> None:
        """Children that are started from now on get these settings."""
        self._settings = settings

    def guard_environment(self) -> dict[str, str]:
        """The environment of the guard process."""
        return child_environment(self._base, {}, frozen=frozen(), foreign=False)

    def start_deadline_s(self, instance: ComponentInstance) -> float:
        """Longest wait for READY, by the size of the model's weights, as far as it is known."""
        supervision = self._settings.supervision
        size = self.weights_bytes(flag_value(instance.argv, "--model") or "")
        server_s = supervision.start_server_s if flag_value(instance.argv, "--engine") in SERVERS else 0.0
        return supervision.start_base_s + supervision.start_per_gb_s * size / GB + server_s

    def weights_bytes(self, model: str) -> int:
        """Size of the weights of a model by name or path, or by what its hub said; 0 while that is not known."""
        if not model:
            return 0
        if here := weights_bytes(self._local(model)):
            return here
        reference = None if Path(model).exists() else likely_reference(model)
        return KnownSizes(self._paths.models).read(reference) if reference else 0

    def _local(self, model: str) -> Path:
        """Where a model of a hub lies; anything else is a path already, or nothing."""
        reference = None if Path(model).exists() else likely_reference(model)
        found = ModelStore(self._paths.models).find_main(reference) if reference else None
        return found[0].path(found[1]) if found else Path(model)


def _is_from_hub(instance: ComponentInstance) -> bool:
    model = flag_value(instance.argv, "--model")
    return bool(model) and likely_reference(model or "") is not None

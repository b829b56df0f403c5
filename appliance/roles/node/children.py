"""How the supervisor calls its own executable for workers and front ends, and what it tells them."""

import os
from pathlib import Path

from appliance.core.config import ChildEnvironment, environment, settings_environment, without_child_variables
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.paths import Paths
from appliance.core.settings import Settings
from appliance.graph.arguments import flag_value
from appliance.models.sizes import weights_bytes
from appliance.roles.node.public_sockets import PublicSockets
from appliance.roles.own_executable import frozen, own_command
from appliance.supervision.environment import child_environment
from appliance.supervision.process import LaunchPlan

GB = 1e9


class Launcher:
    """Makes the launch plan of one incarnation: argv, environment, inherited sockets, address."""

    def __init__(self, settings: Settings, paths: Paths, sockets: PublicSockets) -> None:
        self._settings, self._paths, self._sockets = settings, paths, sockets
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
        extra = settings_environment(self._settings) | instance.env | child.variables()
        return LaunchPlan(
            argv=own_command(*instance.argv),
            env=child_environment(self._base, extra, frozen=frozen(), foreign=False),
            pass_fds=fds,
            address=str(link) if link else "",
        )

    def use(self, settings: Settings) -> None:
        """Children that are started from now on get these settings."""
        self._settings = settings

    def guard_environment(self) -> dict[str, str]:
        """The environment of the guard process."""
        return child_environment(self._base, {}, frozen=frozen(), foreign=False)

    def start_deadline_s(self, instance: ComponentInstance) -> float:
        """Longest wait for READY, by the size of the model's weights."""
        supervision = self._settings.supervision
        model = flag_value(instance.argv, "--model")
        size = weights_bytes(Path(model)) if model else 0
        return supervision.start_base_s + supervision.start_per_gb_s * size / GB

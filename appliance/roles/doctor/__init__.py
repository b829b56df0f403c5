"""What `doctor` looks at: small checks of machine, state, service and running instance; each finding has its cure."""

from collections.abc import Callable, Iterable, Iterator

from appliance.roles.doctor.finding import Finding, Scene, fail
from appliance.roles.doctor.gpu_checks import check_gpus
from appliance.roles.doctor.host_checks import (
    check_clock,
    check_engines,
    check_executable,
    check_limits,
    check_memory,
    check_native_code,
    check_shared_memory,
    check_system,
)
from appliance.roles.doctor.instance_checks import check_instance, check_port, check_service
from appliance.roles.doctor.state_checks import check_database, check_disk, check_settings, check_state_dir

Check = Callable[[Scene], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "executable": check_executable,
    "native code": check_native_code,
    "system": check_system,
    "settings": check_settings,
    "state": check_state_dir,
    "database": check_database,
    "disk": check_disk,
    "memory": check_memory,
    "shared memory": check_shared_memory,
    "limits": check_limits,
    "clock": check_clock,
    "engines": check_engines,
    "gpus": check_gpus,
    "port": check_port,
    "service": check_service,
    "instance": check_instance,
}
"""In the order in which they are shown. A new check is a function and a line here."""


def examine(scene: Scene, checks: dict[str, Check] | None = None) -> Iterator[tuple[str, Finding]]:
    """Name and finding of every check. A check that breaks is a finding too, and the others go on."""
    for name, check in (CHECKS if checks is None else checks).items():
        try:
            for finding in check(scene):
                yield name, finding
        except Exception as error:
            yield name, fail(f"could not be looked at: {error}", "report this together with `--debug`")

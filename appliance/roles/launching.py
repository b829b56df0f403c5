"""What every role does around its own work: trio, errors said once; of a child also its life tied to the parent."""

import logging
import resource
from collections.abc import Awaitable, Callable

import trio

from appliance.core.config import ChildEnvironment
from appliance.core.errors import ApplianceError
from appliance.core.settings import LogSettings
from appliance.roles.signals import first_error
from appliance.supervision.parent_death import die_with_parent
from appliance.telemetry.logs import configure_logging

log = logging.getLogger(__name__)

INTERRUPTED = 130


def run_role(
    main: Callable[[], Awaitable[None]], child: ChildEnvironment, logs: LogSettings, *, role: str, debug: bool
) -> int:
    """Run a role's main function to its end; the exit code. Errors of ours become one log line."""
    if child.parent_pid is not None:
        die_with_parent(child.parent_pid)
    configure_logging(logs, role=role, **({"id": child.worker_id} if child.worker_id else {}))
    raise_file_limit()
    try:
        return run_to_end(main, debug=debug)
    except ApplianceError as error:
        if debug:
            raise
        log.error("%s", error.message)
        return error.exit_code


def run_standalone(main: Callable[[], Awaitable[None]], logs: LogSettings, *, role: str, debug: bool) -> int:
    """Run a role that has no supervisor to its end; the exit code. Raises the `ApplianceError` that ended it."""
    configure_logging(logs, role=role)
    raise_file_limit()
    return run_to_end(main, debug=debug)


def run_to_end(main: Callable[[], Awaitable[None]], *, debug: bool) -> int:
    """Run the main function of a process; the exit code.

    Raises the `ApplianceError` that ended it by itself, out of all groups; with `debug` whatever was raised, as it was.
    """
    try:
        trio.run(main)
    except BaseException as error:
        cause = first_error(error)
        if isinstance(cause, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(cause, ApplianceError) and not debug:
            raise cause from None
        raise
    return 0


def raise_file_limit() -> None:
    """Take as many descriptors as the hard limit allows: every stream needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

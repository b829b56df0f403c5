"""The node role: the operator for one machine. Keeps the stored graphs running as processes behind one public port."""

import structlog
import trio

from appliance.core.errors import ApplianceError
from appliance.roles.launching import INTERRUPTED, raise_file_limit
from appliance.roles.node.lifetime import Node
from appliance.roles.options import NodeOptions
from appliance.roles.signals import first_error
from appliance.telemetry.logs import configure_logging

log = structlog.get_logger(__name__)


def run_node(options: NodeOptions) -> int:
    """Run one appliance until it is told to stop; the exit code. Raises the `ApplianceError` that ended it."""
    configure_logging(options.settings.log, role="supervisor")
    for warning in options.warnings:
        log.warning(warning)
    raise_file_limit()
    try:
        trio.run(Node(options).run)
    except BaseException as error:
        cause = first_error(error)
        if isinstance(cause, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(cause, ApplianceError) and not options.debug:
            raise cause from None
        raise
    return 0

"""The node role: the operator for one machine. Keeps the stored graphs running as processes behind one public port."""

import structlog

from appliance.roles.launching import raise_file_limit, run_to_end
from appliance.roles.node.lifetime import Node
from appliance.roles.options import NodeOptions
from appliance.telemetry.logs import configure_logging

log = structlog.get_logger(__name__)


def run_node(options: NodeOptions) -> int:
    """Run one appliance until it is told to stop; the exit code. Raises the `ApplianceError` that ended it."""
    configure_logging(options.settings.log, role="supervisor")
    for warning in options.warnings:
        log.warning(warning)
    raise_file_limit()
    return run_to_end(Node(options).run, debug=options.debug)

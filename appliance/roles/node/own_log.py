"""The supervisor's own log lines, kept like those of its processes, so that `logs supervisor` shows them."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from appliance.core.identity import WorkerId
from appliance.core.settings import LogSettings
from appliance.supervision.log_ring import LogRing
from appliance.telemetry.logs import LineHandler

WHO = WorkerId("supervisor")


@contextmanager
def keep_own_lines(ring: LogRing, settings: LogSettings) -> Iterator[None]:
    """Within the block, what this process logs also goes into the ring. Called in the trio thread."""
    token, home = trio.lowlevel.current_trio_token(), threading.get_ident()
    ring.begin(WHO)

    def write(line: str) -> None:
        data = f"{line}\n".encode()
        if threading.get_ident() == home:
            ring.feed(WHO, data)
        else:  # a ring has one writer
            token.run_sync_soon(ring.feed, WHO, data)

    handler = LineHandler(settings, write)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)

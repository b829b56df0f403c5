"""Telling the world that everything wanted serves: the ready line, and whoever waits on a descriptor."""

import os
import sys
import time
from contextlib import suppress

from appliance.core.records import ModelRecord
from appliance.core.settings import HttpSettings


def ready_line(http: HttpSettings, port: int, models: list[ModelRecord], started_at: float) -> str:
    """The one line that scripts wait for."""
    scheme = "https" if http.tls_cert_path else "http"
    host = f"[{http.host}]" if ":" in http.host else http.host
    names = ",".join(model.name for model in models if model.phase != "failed")
    return f"ready: {scheme}://{host}:{port}/v1 models={names} took={time.time() - started_at:.2f}s"


def announce(line: str, ready_fd: int | None) -> None:
    """Print the line, and write it to a descriptor that is then closed."""
    with suppress(BrokenPipeError):
        print(line, flush=True, file=sys.stdout)
    if ready_fd is not None:
        with suppress(OSError), os.fdopen(ready_fd, "w") as pipe:
            pipe.write(line + "\n")

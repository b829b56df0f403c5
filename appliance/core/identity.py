"""Names of things as distinct types, so that a worker id is never passed where a request id is meant."""

import zlib
from typing import NewType

WorkerId = NewType("WorkerId", str)
"""One worker process, e.g. `serve-worker-0-3f2a`: graph, component, replica index, start counter."""
RequestId = NewType("RequestId", str)
"""One client request; streams of one request share it."""
ModelName = NewType("ModelName", str)
"""The name a client puts into `model`."""
Digest = NewType("Digest", str)
"""Lower-case SHA-256 of a file's bytes, in hex."""


def instance_number(worker: WorkerId) -> int:
    """The number under which clients see a worker and may ask for it."""
    return zlib.crc32(worker.encode())

"""Digests of the files that a worker hands out, as they stand in its card."""

import hashlib
from collections.abc import Mapping

from appliance.core.identity import Digest
from appliance.core.requests import FileRef


def file_refs(files: Mapping[str, bytes]) -> dict[str, FileRef]:
    """SHA-256 and size of each file, by the file's card name."""
    return {
        name: FileRef(digest=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
        for name, data in files.items()
    }

"""API keys that come from a file instead of the store."""

import time
from pathlib import Path

from appliance.core.errors import UsageError
from appliance.core.records import KeyRecord
from appliance.web.guards import hash_key


def read_key_file(path: str | None) -> list[KeyRecord]:
    """Keys of a file with one per line; empty lines and `#` comments are passed over. Raises `UsageError`."""
    if path is None:
        return []
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"cannot read the key file {path}: {reason}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise UsageError(f"the key file {path} holds no key")
    now = int(time.time())
    return [KeyRecord(name=f"{path}:{at}", sha256=hash_key(key), created=now) for at, key in enumerate(keys, 1)]

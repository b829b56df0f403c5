"""Engine arguments from a JSON file, which takes the place of all single ones."""

from pathlib import Path
from typing import Any

import msgspec

from appliance.core.errors import UsageError

ROLE_NAMES = {"aggregated": "agg", "prefill": "prefill", "decode": "decode"}


def read_argument_file(path: Path) -> dict[str, str]:
    """The arguments as they would stand on the command line. Raises `UsageError` for a file that cannot be used."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise UsageError(f"cannot read the engine arguments {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"the engine arguments in {path} are no JSON object: {error}") from None
    sglang = content.pop("sglang", None) or {}
    if not isinstance(sglang, dict):
        raise UsageError(f"sglang in {path} must be an object")
    content |= {f"sglang_{key}": value for key, value in sglang.items()}
    _read_role(content, path)
    return {key: _text(value) for key, value in content.items() if value is not None}


def _read_role(content: dict[str, Any], path: Path) -> None:
    """`worker_type`, or the older pair of switches, as `disaggregation_mode`."""
    role = content.pop("worker_type", None)
    switches = {key: content.pop(key) for key in ("is_prefill", "is_decode") if key in content}
    if role is not None and switches:
        raise UsageError(f"{path} has worker_type and {next(iter(switches))}; one of them says it all")
    if all(switches.values()) and len(switches) > 1:
        raise UsageError(f"{path} makes a worker both prefill and decode")
    if role is not None and role not in ROLE_NAMES:
        raise UsageError(f"worker_type {role!r} in {path} is none of {', '.join(ROLE_NAMES)}")
    role = role or next((key.removeprefix("is_") for key, value in switches.items() if value), None)
    if role is not None:
        content["disaggregation_mode"] = ROLE_NAMES[role]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()

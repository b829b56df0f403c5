"""The environment that a child process is given. Pure: the caller passes its own environment in."""

from collections.abc import Mapping, Sequence

UNPACK_PREFIXES = ("_PYI_", "_MEIPASS")  # how the one-file bootloader tells its child where it has unpacked itself
SERVICE_VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
SECRET_ENDINGS = (
    "_API_KEY",
    "_API_KEYS",
    "_TOKEN",
    "_SECRET",
    "_SECRET_KEY",
    "_SECRET_ACCESS_KEY",
    "_PASSWORD",
    "_PASSPHRASE",
)


def child_environment(
    base: Mapping[str, str], extra: Mapping[str, str], *, frozen: bool, foreign: bool
) -> dict[str, str]:
    """The environment for a child, from our own (`base`) and what is set for it deliberately (`extra`, which wins).

    `frozen`: we run from a one-file build; our own children then share its unpack folder. `foreign`: the child is not
    our executable, so that it must see neither our libraries nor our Python. Secrets in `base` are never passed on.
    """
    env = {name: value for name, value in base.items() if _passes(name, keep_unpacked=frozen and not foreign)}
    if foreign:
        _restore_library_path(env, frozen=frozen)
        for name in ("PYTHONHOME", "PYTHONPATH"):
            env.pop(name, None)
    return env | dict(extra)


def gpu_environment(uuids: Sequence[str]) -> dict[str, str]:
    """Variables that show a process these GPUs, counted in this order, and hide all others."""
    # By UUID: the order in which CUDA numbers GPUs depends on their speed, and on this very variable.
    return {"CUDA_VISIBLE_DEVICES": ",".join(uuids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _passes(name: str, *, keep_unpacked: bool) -> bool:
    if name.startswith(UNPACK_PREFIXES):
        return keep_unpacked
    if name.startswith("_APPLIANCE_") or name in SERVICE_VARIABLES:
        return False
    return not _is_secret(name)


def _is_secret(name: str) -> bool:
    upper = f"_{name.upper()}"
    return upper.endswith(SECRET_ENDINGS)


def _restore_library_path(env: dict[str, str], *, frozen: bool) -> None:
    """The bootloader points LD_LIBRARY_PATH at its folder and keeps the user's value, if there was one, beside it."""
    original = env.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        env["LD_LIBRARY_PATH"] = original
    elif frozen:
        env.pop("LD_LIBRARY_PATH", None)

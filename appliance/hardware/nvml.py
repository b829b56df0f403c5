"""NVML, the driver's own library, through `pynvml`: loading it, asking it, and what its errors mean.

Every call may block, for ever on a sick GPU: nothing here is called in the trio thread.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from appliance.core.gpus import GpuFault

T = TypeVar("T")

LIBRARY = "libnvidia-ml.so.1"

NO_PERMISSION, LIBRARY_NOT_FOUND, NOT_LOADED, FUNCTION_NOT_FOUND, MISMATCH = 4, 12, 9, 13, 18
LOST = frozenset({15, 16})
"""Codes of a GPU that the driver has given up: GpuIsLost, ResetRequired."""
FAULTS = {
    NO_PERMISSION: GpuFault.NO_PERMISSION,
    LIBRARY_NOT_FOUND: GpuFault.NO_LIBRARY,
    NOT_LOADED: GpuFault.NOT_LOADED,
    MISMATCH: GpuFault.MISMATCH,
}


class NvmlFailed(Exception):
    """NVML cannot be used as a whole."""

    def __init__(self, fault: GpuFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
        """NVML's own words, for a line of ours."""


class GpuLost(Exception):
    """A question about one GPU was answered by: it is lost."""


class Nvml:
    """An initialised NVML. For one thread at a time."""

    def __init__(self, library: str | None = None) -> None:
        """Load and initialise; `library` is a path where the loader does not look. Raises NvmlFailed."""
        loaded = _load(library)
        # Imported here: it is large, and most machines that run this have no driver.
        import pynvml

        if pynvml.nvmlLib is None:
            pynvml.nvmlLib = loaded
        self.api: Any = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise self.failure(error) from error

    def close(self) -> None:
        """Let go of the driver; another `Nvml` may be opened after it."""
        with suppress(self.api.NVMLError):  # it is gone already, which is what was wanted
            self.api.nvmlShutdown()

    def ask(self, question: Callable[..., T], *args: Any) -> T | None:
        """The answer, or None where driver, library or GPU have none. Raises GpuLost."""
        try:
            return question(*args)
        except self.api.NVMLError as error:
            if error.value in LOST:
                raise GpuLost(str(error)) from error
            return None

    def must(self, question: Callable[..., T], *args: Any) -> T:
        """The answer to what every driver can tell. Raises NvmlFailed, GpuLost."""
        try:
            return question(*args)
        except self.api.NVMLError as error:
            if error.value in LOST:
                raise GpuLost(str(error)) from error
            raise self.failure(error) from error

    def failure(self, error: Any) -> NvmlFailed:
        """An error of pynvml as ours."""
        return NvmlFailed(FAULTS.get(error.value, GpuFault.BROKEN), str(error))


def _load(library: str | None) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(library or LIBRARY)
    except OSError as error:
        raise NvmlFailed(GpuFault.NO_LIBRARY, str(error)) from error

"""Reads arrays of numbers from the bytes of an .npz file, without NumPy."""

import ast
import io
import struct
import zipfile
from math import prod
from typing import Any, NamedTuple

from appliance.core.errors import UsageError

MAGIC = b"\x93NUMPY"
MAX_VALUES = 1_000_000
FORMATS = dict(zip(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"], "efdbhiqBHIQ", strict=True))
"""NumPy's names of number types, and `struct`'s."""


class NumberArray(NamedTuple):
    """An array in row order."""

    shape: tuple[int, ...]
    values: list[float]


def read_npz(data: bytes) -> dict[str, NumberArray]:
    """The arrays by name. Raises `UsageError` for bytes that are no such file, and for arrays of other things."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {
                name.removesuffix(".npy"): _read_array(name, archive.read(name))
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        SyntaxError,
        struct.error,
        KeyError,
        NotImplementedError,
    ) as error:
        raise UsageError(f"the profile is no readable .npz file ({type(error).__name__})") from None


def _read_array(name: str, data: bytes) -> NumberArray:
    if not data.startswith(MAGIC):
        raise UsageError(f"{name} in the profile is no NumPy array")
    version = data[len(MAGIC)]
    width, start = ("<H", 10) if version == 1 else ("<I", 12)
    (length,) = struct.unpack_from(width, data, 8)
    header: dict[str, Any] = ast.literal_eval(data[start : start + length].decode("latin-1").strip())
    order, kind = header["descr"][0], header["descr"][1:]
    shape: tuple[int, ...] = header["shape"]
    count = prod(shape)
    if kind not in FORMATS or count > MAX_VALUES or (header["fortran_order"] and len(shape) > 1):
        raise UsageError(f"{name} in the profile holds no plain numbers in row order")
    byte_order = ">" if order == ">" else "<"
    values = struct.unpack_from(f"{byte_order}{count}{FORMATS[kind]}", data, start + length)
    return NumberArray(shape, [float(value) for value in values])

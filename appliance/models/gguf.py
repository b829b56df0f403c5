"""Reader of the head of a GGUF file: metadata and tensor list. Tensor data is never touched.

Every length in the file is checked against the file's size before it is believed, so that a hostile or damaged file
costs no memory. Every fault is a `ModelFileBad` with one line.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.core.errors import ModelFileBad

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_ARRAY_DEPTH = 2  # nested arrays are legal but unused; a bound keeps a crafted file from recursing

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Metadata value types by number, as `struct` letters."""
STRING, ARRAY = 8, 9

BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36),
}  # fmt: skip
"""Elements and bytes of one block of each tensor type that we know; the size of others is not checked."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape and place of one tensor."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    """Bytes from the start of the tensor data."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's data; 0 for a type that we do not know."""
        elements, size = BLOCKS.get(self.type, (1, 0))
        count = 1
        for extent in self.shape:
            count *= extent
        return -(-count // elements) * size


@dataclass(frozen=True)
class GgufFile:
    """The head of a GGUF file."""

    path: Path
    version: int
    metadata: dict[str, Any]
    """By key: numbers, booleans, strings; arrays of numbers are tuples, arrays of strings lists."""
    tensors: tuple[TensorInfo, ...]
    data_start: int
    """Bytes from the start of the file to the tensor data."""
    file_size: int

    @property
    def size_bytes(self) -> int:
        """Bytes of tensor data in this file."""
        return max(0, self.file_size - self.data_start)


def read_gguf(path: Path) -> GgufFile:
    """Read and check the head of a GGUF file.

    Raises `ModelFileBad` when the file is missing, unreadable, not GGUF, of an unknown version, damaged or truncated.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < len(MAGIC):
                raise ModelFileBad(f"model {path} is not a GGUF file: it has only {size} bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _parse(path, view, size)
    except FileNotFoundError:
        raise ModelFileBad(f"model file {path} does not exist") from None
    except OSError as error:
        raise ModelFileBad(f"cannot read model file {path}: {error.strerror or error}") from None


def _parse(path: Path, view: mmap.mmap, size: int) -> GgufFile:
    cursor = _Cursor(path, view, size)
    version = _check_version(cursor)
    tensor_count, pair_count = cursor.scalar("q"), cursor.scalar("q")
    # The smallest tensor entry has 24 bytes and the smallest pair 13: larger counts cannot be true.
    if not 0 <= tensor_count <= size // 24 or not 0 <= pair_count <= size // 13:
        raise cursor.damaged(f"it claims {tensor_count} tensors and {pair_count} metadata entries")
    metadata: dict[str, Any] = {}
    for _ in range(pair_count):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
    tensors = tuple(_read_tensor(cursor) for _ in range(tensor_count))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.damaged(f"its alignment is {alignment!r}, which is no power of two")
    data_start = -(-cursor.at // alignment) * alignment
    _check_extent(path, tensors, data_start, size)
    return GgufFile(path, version, metadata, tensors, data_start, size)


def _check_version(cursor: "_Cursor") -> int:
    if cursor.bytes(4) != MAGIC:
        raise ModelFileBad(f"model {cursor.path} is not a GGUF file")
    version: int = cursor.scalar("I")
    if version not in VERSIONS:
        if version & 0xFFFF == 0:
            raise ModelFileBad(f"model {cursor.path} is a big-endian GGUF file, which this machine cannot run")
        raise ModelFileBad(f"model {cursor.path} has GGUF version {version}; versions 2 and 3 are known")
    return version


def _read_tensor(cursor: "_Cursor") -> TensorInfo:
    name = cursor.string()
    rank = cursor.scalar("I")
    if rank > MAX_DIMENSIONS:
        raise cursor.damaged(f"tensor {name!r} has {rank} dimensions")
    shape = tuple(cursor.scalar("Q") for _ in range(rank))
    return TensorInfo(name, shape, cursor.scalar("I"), cursor.scalar("Q"))


def _check_extent(path: Path, tensors: tuple[TensorInfo, ...], data_start: int, size: int) -> None:
    """Every tensor must lie within the file."""
    needed = max((data_start + tensor.offset + tensor.size_bytes for tensor in tensors), default=0)
    if needed > size:
        raise ModelFileBad(f"model {path} is truncated: it has {size} of {needed} bytes")


class _Cursor:
    """Reads values one after the other and never beyond the end."""

    def __init__(self, path: Path, view: mmap.mmap, size: int) -> None:
        self.path = path
        self.at = 0
        self._view = view
        self._size = size

    def damaged(self, what: str) -> ModelFileBad:
        return ModelFileBad(f"model {self.path} is damaged: {what}")

    def bytes(self, count: int) -> bytes:
        start = self._advance(count)
        return self._view[start : self.at]

    def scalar(self, letter: str) -> Any:
        start = self._advance(struct.calcsize(letter))
        return struct.unpack_from(f"<{letter}", self._view, start)[0]

    def string(self) -> str:
        # Some vocabularies hold tokens that are no valid UTF-8; surrogates keep them apart without losing a byte.
        return self.bytes(self.scalar("Q")).decode("utf-8", "surrogateescape")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY and depth < MAX_ARRAY_DEPTH:
            return self._array(depth)
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        raise self.damaged(f"unknown metadata type {kind} at byte {self.at}")

    def _array(self, depth: int) -> Any:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind in SCALARS:
            letter = SCALARS[kind]
            start = self._advance(count * struct.calcsize(letter))
            return struct.unpack_from(f"<{count}{letter}", self._view, start)
        if count > (self._size - self.at) // 8:  # each string or array starts with eight bytes or more
            raise self._ended(count * 8)
        return [self.value(kind, depth + 1) for _ in range(count)]

    def _advance(self, count: int) -> int:
        start = self.at
        if count > self._size - start:
            raise self._ended(count)
        self.at = start + count
        return start

    def _ended(self, count: int) -> ModelFileBad:
        return ModelFileBad(
            f"model {self.path} is truncated or damaged: it has {self._size} bytes "
            f"and a field at byte {self.at} needs {count} more"
        )

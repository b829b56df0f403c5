"""Profiles: the lines between and beyond the points, both file forms, and files that are none."""

import io
import json
import struct
import zipfile
from typing import Any

import pytest

from appliance.core.errors import UsageError
from appliance.simulation.profile_timing import read_profile

PROFILE: dict[str, Any] = {
    "prefill_isl": [100, 200, 400],
    "prefill_ttft_ms": [10, 20, 60],
    "decode_active_kv_tokens": [0, 1000],
    "decode_context_length": [10, 20, 30],
    "decode_itl": [[1, 2, 3], [5, 6, 11]],
}


def npy(values: list[float], shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    code = {"<f8": "d", "<f4": "f", "<i8": "q"}[kind]
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack(f"<{len(values)}{code}", *values)
    )


def npz(profile: dict[str, Any], kind: str = "<f8") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, values in profile.items():
            flat = [cell for row in values for cell in row] if name == "decode_itl" else values
            shape = (len(values), len(values[0])) if name == "decode_itl" else (len(values),)
            archive.writestr(f"{name}.npy", npy(flat, shape, kind))
    return out.getvalue()


FILES = {
    "json": json.dumps(PROFILE).encode(), "npz": npz(PROFILE), "f4": npz(PROFILE, "<f4"), "i8": npz(PROFILE, "<i8")
}  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_values_lie_on_lines_between_and_beyond_the_points(form: str) -> None:
    timing = read_profile(FILES[form])
    assert [timing.prefill_ms(tokens) for tokens in (0, 50, 100, 150, 400, 500)] == [0, 5, 10, 15, 60, 80]
    assert timing.prefill_ms(1) == pytest.approx(0.1)
    assert [timing.decode_ms(kv, 1, length) for kv, length in ((0, 10), (1000, 30), (500, 10), (500, 25))] == [
        *(1, 11, 3, 5.5)
    ]
    assert timing.decode_ms(2000, 1, 10) == 9
    assert timing.decode_ms(1000, 1, 40) == 16


def test_no_time_is_below_zero() -> None:
    timing = read_profile(json.dumps(PROFILE | {"prefill_ttft_ms": [10, 50, 60]}).encode())
    assert timing.prefill_ms(10) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prefill_ttft_ms": [1, 2]}, "one value for each"),
        ({"decode_itl": [[1, 2, 3]]}, "2 rows"),
        ({"decode_itl": [[1, 2], [3, 4]]}, "2 rows of 3"),
        ({"prefill_isl": [100, 100, 400]}, "growing"),
        ({"prefill_isl": [], "prefill_ttft_ms": []}, "at least one"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_lists_that_do_not_belong_together_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_profile(json.dumps(PROFILE | change).encode())


def test_files_that_are_no_profile_are_refused() -> None:
    missing = {name: values for name, values in PROFILE.items() if name != "prefill_isl"}
    damaged = FILES["npz"].replace(b"NUMPY", b"NUMB!")
    for data in (b"", b"PK\x03\x04", b"{", b"[]", npz(missing), damaged, FILES["npz"][:300], FILES["npz"][:-30]):
        with pytest.raises(UsageError):
            read_profile(data)

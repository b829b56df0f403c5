"""Timing from a profile: measured points, straight lines between them and beyond them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

import msgspec

from appliance.core.errors import UsageError
from appliance.simulation.npz import read_npz


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Measured times. Also the JSON form of a profile."""

    prefill_isl: list[float]
    """Prompt tokens computed in a pass, growing."""
    prefill_ttft_ms: list[float]
    decode_active_kv_tokens: list[float]
    """Tokens of cache in use, growing."""
    decode_context_length: list[float]
    """Mean length of the requests, growing."""
    decode_itl: list[list[float]]
    """Milliseconds of a decode pass: a row per cache use, a column per length."""


class ProfileTiming:
    """See `TimingModel`."""

    def __init__(self, profile: Profile) -> None:
        """Raises `UsageError` for lists that do not belong together."""
        _check_axis("prefill_isl", profile.prefill_isl)
        _check_axis("decode_active_kv_tokens", profile.decode_active_kv_tokens)
        _check_axis("decode_context_length", profile.decode_context_length)
        if len(profile.prefill_ttft_ms) != len(profile.prefill_isl):
            raise UsageError("prefill_ttft_ms of the profile must have one value for each of prefill_isl")
        rows, columns = len(profile.decode_active_kv_tokens), len(profile.decode_context_length)
        if len(profile.decode_itl) != rows or any(len(row) != columns for row in profile.decode_itl):
            raise UsageError(f"decode_itl of the profile must have {rows} rows of {columns} values")
        if not all(map(isfinite, [*profile.prefill_ttft_ms, *(value for row in profile.decode_itl for value in row)])):
            raise UsageError("the profile has times that are no finite numbers")
        self._profile = profile

    def prefill_ms(self, new_tokens: int) -> float:
        """See `TimingModel.prefill_ms`."""
        if new_tokens <= 0:
            return 0.0
        return max(0.0, _interpolate(self._profile.prefill_isl, self._profile.prefill_ttft_ms, new_tokens))

    def decode_ms(self, active_tokens: int, total_tokens: int, context_tokens: float) -> float:
        """See `TimingModel.decode_ms`."""
        profile = self._profile
        row, share = _locate(profile.decode_active_kv_tokens, active_tokens)
        low = _interpolate(profile.decode_context_length, profile.decode_itl[row], context_tokens)
        if len(profile.decode_itl) == 1:
            return max(0.0, low)
        high = _interpolate(profile.decode_context_length, profile.decode_itl[row + 1], context_tokens)
        return max(0.0, low + (high - low) * share)


def read_profile(data: bytes) -> ProfileTiming:
    """A profile from the bytes of an .npz or a JSON file. Raises `UsageError`."""
    if data.lstrip().startswith(b"{"):
        try:
            return ProfileTiming(msgspec.json.decode(data, type=Profile))
        except msgspec.DecodeError as error:
            raise UsageError(f"the profile cannot be read: {error}") from None
    arrays = read_npz(data)
    missing = [name for name in Profile.__struct_fields__ if name not in arrays]
    if missing:
        raise UsageError(f"the profile has no {', '.join(missing)}")
    grid = arrays["decode_itl"]
    if len(grid.shape) != 2:
        raise UsageError("decode_itl of the profile must have two dimensions")
    width = grid.shape[1]
    return ProfileTiming(
        Profile(
            prefill_isl=arrays["prefill_isl"].values,
            prefill_ttft_ms=arrays["prefill_ttft_ms"].values,
            decode_active_kv_tokens=arrays["decode_active_kv_tokens"].values,
            decode_context_length=arrays["decode_context_length"].values,
            decode_itl=[grid.values[row * width : (row + 1) * width] for row in range(grid.shape[0])],
        )
    )


def _check_axis(name: str, values: Sequence[float]) -> None:
    if not values or not all(map(isfinite, values)) or any(after <= before for before, after in pairwise(values)):
        raise UsageError(f"{name} of the profile must be growing numbers, at least one")


def _interpolate(points: Sequence[float], values: Sequence[float], at: float) -> float:
    if len(points) == 1:
        return values[0]
    index, share = _locate(points, at)
    return values[index] + (values[index + 1] - values[index]) * share


def _locate(points: Sequence[float], at: float) -> tuple[int, float]:
    """The stretch whose line gives the value, and how far along it; below 0 or above 1 beyond the ends."""
    if len(points) == 1:
        return 0, 0.0
    index = min(max(bisect_right(points, at) - 1, 0), len(points) - 2)
    return index, (at - points[index]) / (points[index + 1] - points[index])

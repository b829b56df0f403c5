"""Sampling defaults out of a model's own settings, where any value may be missing or of a wrong type."""

from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.core.requests import Sampling


def read_sampling(values: Mapping[str, Any]) -> Sampling:
    """The values that are numbers; whole-numbered fields take whole numbers only, and all else is left out."""
    numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
    for name, value in list(numbers.items()):
        try:
            msgspec.convert({name: value}, Sampling)
        except msgspec.ValidationError:
            del numbers[name]
    return msgspec.convert(numbers, Sampling)

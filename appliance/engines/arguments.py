"""Reading of `--engine-arg K=V` values into typed numbers, with errors that name the known keys."""

import difflib
import math
from collections.abc import Collection, Mapping

from appliance.core.errors import UsageError


class EngineArguments:
    """The engine arguments of one instance. Every getter raises `UsageError` naming the key for a bad value."""

    def __init__(self, engine: str, given: Mapping[str, str], known: Collection[str]) -> None:
        """Raises `UsageError` for a key that is not known, with the nearest known one."""
        self._engine = engine
        self._given = {key.replace("-", "_"): value for key, value in given.items()}
        for key in self._given:
            if key not in known:
                raise UsageError(_unknown_key(engine, key, known))

    def text(self, key: str, default: str | None = None) -> str | None:
        """The value as it was given."""
        return self._given.get(key, default)

    def integer(self, key: str, default: int, *, low: int, high: int = 2**31 - 1) -> int:
        """A whole number within bounds."""
        if key not in self._given:
            return default
        try:
            value = int(self._given[key])
        except ValueError:
            raise self._bad(key, "is not a whole number") from None
        if not low <= value <= high:
            raise self._bad(key, f"is not within {low} and {high}")
        return value

    def number(self, key: str, default: float, *, low: float) -> float:
        """A finite number that is not below `low`."""
        if key not in self._given:
            return default
        try:
            value = float(self._given[key])
        except ValueError:
            raise self._bad(key, "is not a number") from None
        if not (math.isfinite(value) and value >= low):
            raise self._bad(key, f"is not a number of at least {low:g}")
        return value

    def one_of(self, key: str, default: str, allowed: Collection[str]) -> str:
        """One of a few words."""
        value = self._given.get(key, default)
        if value not in allowed:
            raise self._bad(key, f"is none of {', '.join(allowed)}")
        return value

    def _bad(self, key: str, why: str) -> UsageError:
        return UsageError(f"engine argument {key}={self._given[key]!r} of {self._engine} {why}")


def _unknown_key(engine: str, key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"engine {engine} knows no argument {key!r}{hint} (known: {', '.join(sorted(known))})"

"""A problem of an object: the path of the field, what is wrong with it, and whether it stops us."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from appliance.core.errors import Unprocessable


@dataclass(frozen=True)
class Problem:
    """An error stops an object from being stored; a warning says what a box will not do."""

    path: str
    """Of the field, e.g. `spec.components[0].name`."""
    message: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def warning(path: str, message: str) -> Problem:
    """A problem that does not stop us."""
    return Problem(path, message, "warning")


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    """Those that stop us."""
    return [problem for problem in problems if problem.level == "error"]


def raise_errors(problems: Iterable[Problem], what: str) -> None:
    """Raise `Unprocessable`, one line naming every error, if there is any."""
    found = errors_of(problems)
    if found:
        raise Unprocessable(f"{what} is not valid: " + "; ".join(map(str, found)), param=found[0].path)


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a wrong name: the nearest known one, else all of them."""
    by_lower = {item.lower(): item for item in known}
    close = get_close_matches(name.lower(), list(by_lower), n=1)
    return f"did you mean {by_lower[close[0]]}?" if close else "known: " + ", ".join(known)

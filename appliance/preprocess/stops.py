"""Finds stop strings in text that comes in pieces, and shows nothing of them."""

from collections.abc import Sequence

from appliance.core.errors import InvalidRequest


class StopMatcher:
    """Finds the stop string that is complete first; of two that end at the same place, the longer one.

    The answer does not depend on how the text was cut into pieces. Only text that could be the beginning of a stop
    string is held back.
    """

    __slots__ = ("_firsts", "_held", "_include", "_longest", "_matched", "_stops")

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        """`include` shows the stop string itself too. Raises `InvalidRequest` for an empty stop string."""
        if not all(stops):
            raise InvalidRequest("a stop string may not be empty", param="stop")
        self._stops = tuple(stops)
        self._firsts = frozenset(stop[0] for stop in stops)
        self._longest = max(map(len, stops), default=0)
        self._include = include
        self._held = ""
        self._matched = False

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that may be shown now, and the stop string that ended it; after that nothing is shown any more."""
        if self._matched:
            return "", None
        if not self._held and self._firsts.isdisjoint(text):
            return text, None
        text = self._held + text
        found = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if not found:
            cut = self._possible_start(text)
            self._held = text[cut:]
            return text[:cut], None
        end, _, stop = min(found)
        self._matched, self._held = True, ""
        return text[: end if self._include else end - len(stop)], stop

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Where the longest end of the text begins that some stop string begins with."""
        for place in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[place] in self._firsts and any(stop.startswith(text[place:]) for stop in self._stops):
                return place
        return len(text)

"""Sets of fixed strings to look for in text that comes in pieces."""

import re


class Markers:
    """Fixed strings, none of which begins with another one, so that finding one needs no look at what follows it."""

    __slots__ = ("_firsts", "_longest", "_markers", "_pattern")

    def __init__(self, *markers: str) -> None:
        self._markers = markers
        self._pattern = re.compile("|".join(map(re.escape, markers)) or r"(?!)")
        self._firsts = frozenset(marker[0] for marker in markers)
        self._longest = max(map(len, markers), default=0)
        for marker in markers:
            if any(marker.startswith(other) for other in markers if other is not marker):
                raise ValueError(f"marker {marker!r} begins with another marker")

    def absent(self, text: str) -> bool:
        """Whether the text surely holds no marker and no part of one; almost every piece of a stream."""
        return self._firsts.isdisjoint(text)

    def search(self, text: str, at: int) -> re.Match[str] | None:
        """The first whole marker at or after `at`."""
        return self._pattern.search(text, at)

    def match(self, text: str, at: int) -> str | None:
        """The marker that stands at `at`."""
        found = self._pattern.match(text, at)
        return found.group() if found else None

    def may_stand(self, text: str, at: int) -> bool:
        """Whether the text ends in what could become a marker that begins at `at`."""
        return any(marker.startswith(text[at : at + self._longest]) for marker in self._markers)

    def possible_start(self, text: str, at: int) -> int:
        """Where the end of the text begins that could become a marker; the text's length where none could."""
        for place in range(max(at, len(text) - self._longest + 1), len(text)):
            if text[place] in self._firsts and self.may_stand(text, place):
                return place
        return len(text)

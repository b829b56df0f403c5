"""The reasoning parser for models that put marks around their reasoning, such as `<think>` and `</think>`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.core.output import ReasoningPart, TextPart
from appliance.preprocess.reasoning.parts import PartList, ReasonedPart


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What a family of models writes around its reasoning. No mark may hold another one."""

    opens: tuple[str, ...] = ("<think>",)
    """The first one is the usual spelling."""
    closes: tuple[str, ...] = ("</think>",)
    forced: bool = False
    """Output begins inside of reasoning: the opening mark is in the prompt or left out."""
    once: bool = False
    """Only the first block is reasoning; later marks are text."""


class MarkedReasoning:
    """Splits text at the marks, which are not shown. A mark in the wrong place is text.

    Blocks may follow each other. Only what could be the beginning of a mark is held back, so the result is the same
    for any cutting of the text into pieces. An opening mark as the first thing inside of reasoning, apart from white
    space, is not shown either: some models repeat the one in their prompt.
    """

    __slots__ = ("_close", "_held", "_inside", "_once", "_open", "_untouched")

    def __init__(self, marks: Marks, *, starts_inside: bool) -> None:
        self._open = _Finder(marks.opens)
        self._close = _Finder(marks.closes)
        self._once = marks.once
        self._inside = starts_inside
        self._untouched = starts_inside
        """Inside without an opening mark in the output, and nothing but white space seen."""
        self._held = ""

    def push(self, text: str) -> list[ReasonedPart]:
        """The parts that the new text makes certain."""
        if self._is_plain(text):
            return [ReasoningPart(text) if self._inside else TextPart(text)]
        parts = PartList()
        text = self._held + text
        place: int | None = 0
        while place is not None:
            if self._untouched:
                place = self._begin(text, place, parts)
            elif self._inside:
                place = self._reason(text, place, parts)
            else:
                place = self._answer(text, place, parts)
        return parts.take()

    def finish(self) -> list[ReasonedPart]:
        """What was held back and turned out to be no mark."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ReasoningPart(held) if self._inside else TextPart(held)]

    def _is_plain(self, text: str) -> bool:
        """Whether the text needs no search: almost every piece of a stream."""
        mark = self._close if self._inside else self._open
        return bool(text) and not self._held and not self._untouched and mark.firsts.isdisjoint(text)

    # Each step goes on from `place` and returns where the next one begins; None when the text is used up.

    def _begin(self, text: str, place: int, parts: PartList) -> int | None:
        start = len(text) - len(text[place:].lstrip())
        parts.add(ReasoningPart, text[place:start])
        if self._open.may_begin(text, start):
            self._held = text[start:]
            return None
        self._untouched = False
        return self._open.end_at(text, start)

    def _reason(self, text: str, place: int, parts: PartList) -> int | None:
        start, end = self._close.find(text, place)
        parts.add(ReasoningPart, text[place:start])
        if end is None:
            self._held = text[start:]
            return None
        self._inside = False
        if self._once:
            self._open = _NEVER
        return end

    def _answer(self, text: str, place: int, parts: PartList) -> int | None:
        start, end = self._open.find(text, place)
        parts.add(TextPart, text[place:start])
        if end is None:
            self._held = text[start:]
            return None
        self._inside = True
        return end


class _Finder:
    """Looks for the first of some marks."""

    __slots__ = ("_longest", "_marks", "_pattern", "firsts")

    def __init__(self, marks: Iterable[str]) -> None:
        self._marks = tuple(marks)
        self.firsts = frozenset(mark[0] for mark in self._marks)
        self._longest = max(map(len, self._marks), default=0)
        self._pattern = re.compile("|".join(map(re.escape, self._marks)) or "(?!)")

    def find(self, text: str, place: int) -> tuple[int, int | None]:
        """Where the first mark begins and ends. Without one: where its beginning might be, and None."""
        match = self._pattern.search(text, place)
        if match is not None:
            return match.span()
        for start in range(max(place, len(text) - self._longest + 1), len(text)):
            if text[start] in self.firsts and self.may_begin(text, start):
                return start, None
        return len(text), None

    def may_begin(self, text: str, start: int) -> bool:
        """Whether the rest of the text is a part of a mark, but not all of it."""
        if len(text) - start >= self._longest:
            return False
        rest = text[start:]
        return any(len(rest) < len(mark) and mark.startswith(rest) for mark in self._marks)

    def end_at(self, text: str, start: int) -> int:
        """Where a mark ends that begins at this place; the same place when none does."""
        match = self._pattern.match(text, start)
        return start if match is None else match.end()


_NEVER = _Finder(())

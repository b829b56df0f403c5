"""Counts what one rendering of a chat template does, and checks operations that could build something huge.

The counts belong to one rendering and lie in its context (`template_context`), because the compiled template is shared.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_ROUNDS = 500_000  # loop rounds of one rendering: about half a second
MACRO_ROUNDS = 12  # a macro call takes as long as so many rounds
BASE_CHARS = 1 << 22  # the largest value that a template may build by itself
INPUT_FACTOR = 8  # and on top of it for each character of the messages
WORK_FACTOR = 16  # characters made or copied in all, in units of the largest value
BASE_WORK = WORK_FACTOR * BASE_CHARS
MEMBER_COST = 64  # looking at one member of a container takes as long as copying so many characters
MAX_INT_BITS = 4096
MAX_JSON_INDENT = 64
WIDTH_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
GROWING_METHODS = WIDTH_METHODS | {"replace", "join", "format", "format_map", "translate"}
GO_THROUGH_MEMBERS = (
    "dictsort", "groupby", "items", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select",
    "selectattr", "sort", "unique",
)  # fmt: skip
"""Filters that look at all members, and may make little or nothing of them."""
GO_THROUGH_TEXT = (
    "capitalize", "e", "escape", "filesizeformat", "float", "forceescape", "int", "lower", "title", "trim", "upper",
    "wordcount",
)  # fmt: skip
"""Filters that read all of a text, and may make little or nothing of it."""
COMPARE = (
    "!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lower", "lt",
    "ne", "upper",
)  # fmt: skip
"""Tests that look at all of their values."""
WIDE_FORMAT = re.compile(r"\d{5,}|\*|\{[^{}]*\{")
"""Format widths of five digits, and widths that are given as arguments."""


class TemplateRunaway(Exception):
    """A template that went over a bound; the text says over which."""


class Meter:
    """What one rendering may still do."""

    __slots__ = ("_given", "_rounds", "_work", "largest")

    def __init__(self, given: list[Any]) -> None:
        """`given` is the plain data that is rendered. Most templates never do so much that its size counts."""
        self.largest = BASE_CHARS
        self._work = BASE_WORK
        self._rounds = MAX_ROUNDS
        self._given: list[Any] | None = given

    def step(self, rounds: int, chars: int) -> None:
        """Count rounds of loops or macros, and the characters of their fixed text."""
        self._rounds -= rounds
        self._work -= chars
        if self._rounds < 0:
            raise TemplateRunaway(f"it goes through more than {MAX_ROUNDS} loop rounds")
        if self._work < 0:
            self._stop_over(0)

    def charge(self, size: int, times: int = 1) -> None:
        """Count characters or members that are made, copied or looked at so often; `size` may not be negative."""
        self._work -= size * times
        if size > self.largest or self._work < 0:
            self._stop_over(size)

    def _stop_over(self, size: int) -> None:
        self._allow_for_input()
        if size > self.largest or self._work < 0:
            raise TemplateRunaway(f"it builds more than {self.largest} characters")

    def _allow_for_input(self) -> None:
        """Raise the bounds, once, by what a template may do for each character of the messages."""
        if self._given is not None:
            allowance = INPUT_FACTOR * _count_chars(self._given)
            self._given = None
            self.largest += allowance
            self._work += WORK_FACTOR * allowance

    def charge_whole(self, value: Any) -> None:
        """Count a value by the text that printing it would take."""
        if isinstance(value, str):
            self.charge(len(value))
        elif isinstance(value, (list, tuple)):
            self.charge(MEMBER_COST * len(value))
            for member in value:
                self.charge_whole(member)
        elif isinstance(value, Mapping):
            self.charge(MEMBER_COST * len(value))
            for key, member in value.items():
                self.charge_whole(key)
                self.charge_whole(member)

    def charge_join(self, members: Any, separator: str) -> None:
        """Count the text that joining would make."""
        if isinstance(members, (list, tuple, Mapping)):
            self.charge_whole(list(members))
            self.charge(len(members) * len(separator))


def _count_chars(value: Any) -> int:
    """About the characters of plain data."""
    if type(value) is str:
        return len(value)
    if type(value) is dict:
        total = 0
        for key, member in value.items():
            total += len(key) if type(key) is str else 8
            total += len(member) if type(member) is str else _count_chars(member)
        return total
    if isinstance(value, Mapping):
        return _count_chars(dict(value))
    if isinstance(value, list):
        return sum(map(_count_chars, value))
    return 8


def check_operation(meter: Meter, operator: str, left: Any, right: Any) -> None:
    """Refuse `*`, `**`, `+` and `%` on values whose result would be too large."""
    if operator == "%" and isinstance(left, str):
        _check_format(left)
        meter.charge_whole(right)
    elif isinstance(left, int) and isinstance(right, int):
        _check_integers(operator, left, right)
    elif operator == "*":
        sequence, count = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(count, int) and hasattr(sequence, "__len__"):
            meter.charge(len(sequence) * max(count, 0))
    elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
        meter.charge(len(left) + len(right))


def _check_integers(operator: str, left: int, right: int) -> None:
    bits = left.bit_length() * max(right, 0) if operator == "**" else left.bit_length() + right.bit_length()
    if bits > MAX_INT_BITS:
        raise TemplateRunaway(f"it makes a number of more than {MAX_INT_BITS} bits")


def check_text_method(meter: Meter, text: str, method: str, args: list[Any]) -> None:
    """Refuse a method call on a text whose result would be too large."""
    meter.charge(len(text))
    if method not in GROWING_METHODS:
        return
    if method in WIDTH_METHODS:
        width = next((arg for arg in args if isinstance(arg, int)), 8)
        meter.charge(max(width, 0) * max(1, text.count("\t")))
    elif method == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        meter.charge(text.count(args[0]) * len(args[1]))
    elif method == "join":
        meter.charge_join(args[0] if args else (), text)
    elif method in ("format", "format_map"):
        _check_format(text)
        meter.charge_whole(args)
    elif method == "translate":
        raise TemplateRunaway("it uses the text method translate, which is not available")


def _check_format(text: str) -> None:
    if WIDE_FORMAT.search(text):
        raise TemplateRunaway("it uses a format with a width of five digits or more")


def _check_whole(meter: Meter, args: list[Any]) -> None:
    meter.charge_whole(args[0])


def _check_members(meter: Meter, args: list[Any]) -> None:
    """Each member of what is filtered is looked at, whatever comes of it."""
    if hasattr(args[0], "__len__"):
        meter.charge(MEMBER_COST, len(args[0]))


def _check_values(meter: Meter, args: list[Any]) -> None:
    """All that is compared."""
    for arg in args:
        meter.charge_whole(arg)


def _check_text(meter: Meter, args: list[Any]) -> None:
    if isinstance(args[0], str):
        meter.charge(len(args[0]))


def _check_tags(meter: Meter, args: list[Any]) -> None:
    """Taking out a tag copies the text, which is fast."""
    text = str(args[0])
    meter.charge(len(text) * (1 + text.count("<") // 64))


def _check_numbers(meter: Meter, args: list[Any]) -> None:
    """Widths and counts, times the lines that they apply to."""
    _check_members(meter, args)
    lines = args[0].count("\n") + 1 if isinstance(args[0], str) else 1
    for arg in args[1:]:
        meter.charge(lines * (len(arg) if isinstance(arg, str) else max(arg, 0) if isinstance(arg, int) else 0))


def _check_replace(meter: Meter, args: list[Any]) -> None:
    if len(args) > 2:
        meter.charge(str(args[0]).count(str(args[1])) * len(str(args[2])))


def _check_wrap(meter: Meter, args: list[Any]) -> None:
    """Each character may become a line of its own, with the given line end."""
    line_end = max((len(arg) for arg in args[1:] if isinstance(arg, str)), default=1)
    meter.charge(len(str(args[0])) * (1 + line_end))


def _check_sum(meter: Meter, args: list[Any]) -> None:
    meter.charge_whole(args[0])
    if any(isinstance(arg, (list, tuple)) for arg in args[1:]):
        raise TemplateRunaway("it sums up lists")


def _check_printf(meter: Meter, args: list[Any]) -> None:
    _check_format(str(args[0]))
    meter.charge_whole(args[1:])


def _check_json(meter: Meter, args: list[Any]) -> None:
    meter.charge_whole(args[0])
    if any(isinstance(arg, int) and arg > MAX_JSON_INDENT for arg in args[1:]):
        raise TemplateRunaway(f"it indents JSON by more than {MAX_JSON_INDENT}")


def _check_join(meter: Meter, args: list[Any]) -> None:
    meter.charge_join(args[0], str(args[1]) if len(args) > 1 else "")


FILTER_CHECKS: dict[str, Callable[[Meter, list[Any]], None]] = {
    **dict.fromkeys(GO_THROUGH_MEMBERS, _check_members),
    **dict.fromkeys(GO_THROUGH_TEXT, _check_text),
    **dict.fromkeys(("batch", "center", "indent", "round", "slice", "truncate"), _check_numbers),
    **dict.fromkeys(("pprint", "string", "urlencode", "urlize", "xmlattr"), _check_whole),
    "format": _check_printf,
    "join": _check_join,
    "replace": _check_replace,
    "striptags": _check_tags,
    "sum": _check_sum,
    "tojson": _check_json,
    "wordwrap": _check_wrap,
}
"""Filters that can make more than they are given, or take long for little, by name."""

TEST_CHECKS: dict[str, Callable[[Meter, list[Any]], None]] = dict.fromkeys(COMPARE, _check_values)
"""Tests that can take long, by name."""

"""Regular expressions as GBNF. The whole output must match, so anchors at the ends mean nothing more."""

import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from appliance.core.errors import InvalidRequest
from appliance.engines.llamacpp.gbnf import LARGEST_CODE_POINT, CharRange, char_class, group, literal, repeated

# The standard library's regex parser has no public name, and whether mypy finds its types depends on the import order.
op: Any = import_module("re._constants")
parser: Any = import_module("re._parser")

LARGEST_REPEAT = 2000
ANY_TEXT: tuple[CharRange, ...] = ((0, LARGEST_CODE_POINT),)
CATEGORIES: dict[Any, tuple[CharRange, ...]] = {
    op.CATEGORY_DIGIT: ((48, 57),),
    op.CATEGORY_SPACE: ((9, 13), (32, 32)),
    op.CATEGORY_WORD: ((48, 57), (65, 90), (95, 95), (97, 122)),
}
OPPOSITES = {
    op.CATEGORY_NOT_DIGIT: op.CATEGORY_DIGIT,
    op.CATEGORY_NOT_SPACE: op.CATEGORY_SPACE,
    op.CATEGORY_NOT_WORD: op.CATEGORY_WORD,
}
LINE_ENDS = ((10, 10), (13, 13))
STARTS = (op.AT_BEGINNING, op.AT_BEGINNING_STRING)
ENDS = (op.AT_END, op.AT_END_STRING)
NAMES = {
    op.ASSERT: "a look-ahead or look-behind",
    op.ASSERT_NOT: "a look-ahead or look-behind",
    op.AT: "an anchor inside a pattern",
    op.GROUPREF: "a back-reference",
    op.GROUPREF_EXISTS: "a conditional group",
    op.ATOMIC_GROUP: "an atomic group",
    op.POSSESSIVE_REPEAT: "a possessive repetition",
}
Items = Sequence[tuple[Any, Any]]


def regex_grammar(pattern: str) -> str:
    """A grammar for the texts that match a pattern from end to end. Raises `InvalidRequest` for what has no grammar."""
    return f"root ::= {regex_expression(pattern)}"


def regex_expression(
    pattern: str,
    *,
    param: str = "guided_regex",
    allowed: Iterable[CharRange] = ANY_TEXT,
    spell: Callable[[str], str] = str,
) -> str:
    """The same as an expression for use in a rule.

    Classes are cut down to the `allowed` characters, and `spell` says how a literal one is written: so a pattern can
    constrain the inside of a JSON string.
    """
    try:
        parsed = parser.parse(pattern)
        if parsed.state.flags & ~re.UNICODE.value:
            raise _Unsupported("a flag inside a pattern")
        return _Writer(list(allowed), spell).outermost(list(parsed))
    except _Unsupported as what:
        raise InvalidRequest(f"{what} cannot be enforced by a grammar", param=param) from None
    except (re.error, OverflowError, RecursionError):
        raise InvalidRequest("the pattern is no regular expression", param=param) from None


class _Unsupported(Exception):
    """A construct that no context-free grammar of ours expresses; the text names it."""


class _Writer:
    """Writes a parsed pattern as an expression."""

    def __init__(self, allowed: list[CharRange], spell: Callable[[str], str]) -> None:
        self._allowed = allowed
        self._spell = spell
        self._writers: dict[Any, Callable[[Any], str]] = {
            op.LITERAL: lambda code: literal(self._spell(chr(code))),
            op.NOT_LITERAL: lambda code: self._class(complement([(code, code)])),
            op.ANY: lambda _: self._class(complement(LINE_ENDS)),
            op.IN: self._in,
            op.BRANCH: lambda branch: group(self._sequence(items) for items in branch[1]),
            op.SUBPATTERN: self._subpattern,
            op.MAX_REPEAT: self._repeat,
            op.MIN_REPEAT: self._repeat,
        }

    def outermost(self, items: Items) -> str:
        """Anchors say nothing new at the ends of the whole pattern or of its alternatives."""
        items = _unanchored(items)
        if len(items) == 1 and items[0][0] is op.BRANCH:
            return group(self._sequence(_unanchored(branch)) for branch in items[0][1][1])
        return self._sequence(items)

    def _sequence(self, items: Items) -> str:
        return " ".join(self._item(code, argument) for code, argument in items) or literal("")

    def _item(self, code: Any, argument: Any) -> str:
        if code not in self._writers:
            raise _Unsupported(NAMES.get(code, str(code).lower()))
        return self._writers[code](argument)

    def _repeat(self, argument: tuple[int, Any, Items]) -> str:
        low, most, items = argument
        high = None if most is op.MAXREPEAT else int(most)
        if max(low, high or 0) > LARGEST_REPEAT:
            raise _Unsupported(f"a repetition of more than {LARGEST_REPEAT}")
        return literal("") if high == 0 else repeated(group([self._sequence(items)]), low, high)

    def _subpattern(self, argument: tuple[Any, int, int, Items]) -> str:
        _, added_flags, removed_flags, items = argument
        if added_flags or removed_flags:
            raise _Unsupported("a flag inside a pattern")
        return group([self._sequence(items)])

    def _in(self, members: Items) -> str:
        negated = members[0][0] is op.NEGATE
        ranges: list[CharRange] = []
        for code, argument in members[1:] if negated else members:
            if code is op.LITERAL:
                ranges.append((argument, argument))
            elif code is op.RANGE:
                ranges.append(argument)
            else:
                ranges += CATEGORIES.get(argument) or complement(CATEGORIES[OPPOSITES[argument]])
        return self._class(complement(ranges) if negated else ranges)

    def _class(self, ranges: Iterable[CharRange]) -> str:
        usable = complement([*complement(ranges), *complement(self._allowed)])
        if not usable:
            raise _Unsupported("a class without a usable character")
        return char_class(usable)


def _unanchored(items: Items) -> Items:
    start = 1 if items and items[0] in [(op.AT, where) for where in STARTS] else 0
    end = -1 if len(items) > start and items[-1] in [(op.AT, where) for where in ENDS] else None
    return items[start:end]


def complement(ranges: Iterable[CharRange]) -> list[CharRange]:
    """All code points outside of the ranges, in order."""
    outside, next_free = [], 0
    for low, high in sorted(ranges):
        if low > next_free:
            outside.append((next_free, low - 1))
        next_free = max(next_free, high + 1)
    if next_free <= LARGEST_CODE_POINT:
        outside.append((next_free, LARGEST_CODE_POINT))
    return outside

"""Pieces of GBNF, the grammar notation of llama.cpp: literals, character classes, repetition."""

from collections.abc import Iterable

CharRange = tuple[int, int]
"""First and last code point, both included."""
LARGEST_CODE_POINT = 0x10FFFF


def literal(text: str) -> str:
    """An expression that matches exactly this text."""
    return '"' + "".join(_escaped(ord(char)) for char in text) + '"'


def char_class(ranges: Iterable[CharRange]) -> str:
    """An expression that matches one character within the ranges."""
    inner = "".join(_escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}" for low, high in ranges)
    return f"[{inner}]"


def repeated(expression: str, low: int, high: int | None) -> str:
    """The expression `low` to `high` times; None is without bound. It must be a single item or in parentheses."""
    if (low, high) == (1, 1):
        return expression
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((low, high))
    return expression + (short or f"{{{low},{'' if high is None else high}}}")


def group(alternatives: Iterable[str]) -> str:
    """One of several expressions."""
    return f"({' | '.join(alternatives)})"


def _escaped(code: int) -> str:
    """A code point that is safe in literals and classes: letters and digits as they are, all else as an escape."""
    char = chr(code)
    if char.isascii() and (char.isalnum() or char == " "):
        return char
    return f"\\U{code:08X}"

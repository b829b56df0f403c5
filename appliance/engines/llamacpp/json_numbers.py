"""Numbers within bounds as GBNF expressions, digit by digit."""

from appliance.engines.llamacpp.gbnf import group, literal

LARGEST = 10**15 - 1  # stands for "no bound"; every integer up to here is exact in a double
FRACTION = '("." [0-9]{1,15})?'
INTEGER = '"-"? ("0" | [1-9] [0-9]{0,14})'
NUMBER = f"{INTEGER} {FRACTION} ([eE] [-+]? [0-9]{{1,2}})?"


def integers_between(low: int, high: int) -> str:
    """Decimal integers from `low` to `high`, both included; the range must not be empty."""
    alternatives = []
    if low < 0:
        alternatives += [f'"-" {expr}' for expr in _naturals(max(1, -high), -low)]
    if high >= 0:
        alternatives += _naturals(max(0, low), high)
    return group(alternatives)


def numbers_between(low: int, high: int) -> str:
    """Decimal numbers from `low` to `high`, both included."""
    alternatives = [integers_between(low, high)]
    if low < 0:
        alternatives += [f'"-" {expr} {FRACTION}' for expr in _naturals(max(0, -high), -low - 1)]
    if high > 0:
        alternatives += [f"{expr} {FRACTION}" for expr in _naturals(max(0, low), high - 1)]
    return group(alternatives)


def _naturals(low: int, high: int) -> list[str]:
    """Alternatives for `low` to `high`, both at least 0, none written with leading zeros."""
    alternatives = []
    while low <= high:
        longest_of_length = 10 ** len(str(low)) - 1
        alternatives += _same_length(str(low), str(min(high, longest_of_length)))
        low = longest_of_length + 1
    return alternatives


def _same_length(low: str, high: str) -> list[str]:
    """Alternatives for the digit strings from `low` to `high`."""
    if set(low) <= {"0"} and set(high) <= {"9"}:
        return [_any_digits(len(low))]
    first, last = low[0], high[0]
    if first == last:
        return [f"{literal(first)} {rest}".strip() for rest in _same_length(low[1:], high[1:])]
    rest = len(low) - 1
    alternatives = []
    if low[1:].strip("0"):
        alternatives += [f"{literal(first)} {expr}" for expr in _same_length(low[1:], "9" * rest)]
        first = chr(ord(first) + 1)
    above = []
    if high[1:].strip("9"):
        above = [f"{literal(last)} {expr}" for expr in _same_length("0" * rest, high[1:])]
        last = chr(ord(last) - 1)
    if first <= last:
        alternatives.append(f"[{first}-{last}] {_any_digits(rest)}".strip())
    return alternatives + above


def _any_digits(count: int) -> str:
    return f"[0-9]{{{count}}}" if count else ""

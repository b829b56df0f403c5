"""Cases of stop strings that are worth naming; the rest is in the property tests."""

import pytest

from appliance.core.errors import InvalidRequest
from appliance.preprocess.stops import StopMatcher


def test_stop_over_pieces_is_never_shown() -> None:
    matcher = StopMatcher(["END"])
    assert [matcher.push("one E"), matcher.push("N"), matcher.push("D two")] == [
        ("one ", None),
        ("", None),
        ("", "END"),
    ]
    assert matcher.push("more") == ("", None)
    assert matcher.finish() == ""


def test_false_start_is_shown_later() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.push("E") == ("", None)
    assert matcher.push("E") == ("E", None)
    assert matcher.push("x") == ("Ex", None)


def test_first_complete_and_then_longest() -> None:
    assert StopMatcher(["b", "ab"]).push("xaby") == ("x", "ab")
    assert StopMatcher(["abcd", "bc"]).push("abcd") == ("a", "bc")


def test_include_shows_the_stop_string() -> None:
    assert StopMatcher(["\n\n"], include=True).push("a\n\nb") == ("a\n\n", "\n\n")


def test_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="may not be empty"):
        StopMatcher(["a", ""])


def test_very_long_stop_strings_cost_little() -> None:
    matcher = StopMatcher(["a" * 50_000 + "b"])
    assert matcher.push("a" * 49_999) == ("", None)
    assert matcher.push("c")[0] == "a" * 49_999 + "c"

"""The stop matcher finds the same in pieces as in the whole text, and never shows a part of a stop string."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.preprocess.stops import StopMatcher

TEXTS = st.text(alphabet="abc ", max_size=30)
STOPS = st.lists(st.text(alphabet="abc ", min_size=1, max_size=5), max_size=4)


def search(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The same by trying every end from the left, longest stop string first."""
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], stop
    return text, None


@given(pieces=st.lists(TEXTS, max_size=8), stops=STOPS, include=st.booleans())
def test_pieces_equal_the_whole(pieces: list[str], stops: list[str], include: bool) -> None:
    matcher = StopMatcher(stops, include)
    shown, matched = "", None
    expected, stop = search("".join(pieces), stops)
    for piece in pieces:
        text, found = matcher.push(piece)
        shown += text
        matched = matched or found
        assert (expected + (stop or "" if include else "")).startswith(shown)
    shown += matcher.finish()
    assert matched == stop
    assert shown == expected + (stop or "" if include else "")


@given(text=TEXTS, stops=STOPS)
def test_holds_back_no_more_than_needed(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown, matched = matcher.push(text)
    if matched is None:
        held = text[len(shown) :]
        assert held == "" or any(stop.startswith(held) for stop in stops)
        assert matcher.finish() == held

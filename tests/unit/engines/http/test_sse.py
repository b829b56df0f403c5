"""Events out of bytes, however these are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import EngineFailed
from appliance.engines.http.sse import LONGEST_EVENT, SseReader

TEXT = (
    b': a comment\n\ndata: {"a":1}\n\nevent: x\r\ndata: two\r\ndata: lines\r\n\r\n'
    b"id: 7\n\ndata:tight\n\n\n\ndata: [DONE]\n\ndata: unfinished"
)
EVENTS = [b'{"a":1}', b"two\nlines", b"tight", b"[DONE]"]


@given(st.lists(st.integers(0, len(TEXT)), max_size=20))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    reader = SseReader()
    places = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in pairwise(places)]
    assert [event for piece in pieces for event in reader.push(piece)] == EVENTS


def test_an_event_without_end_is_refused() -> None:
    reader = SseReader()
    reader.push(b"x" * LONGEST_EVENT)
    with pytest.raises(EngineFailed, match="too long"):
        reader.push(b"x")

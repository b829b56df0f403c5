"""Toy text tools: a token is a byte, and stop strings are found the slow and obvious way."""

import codecs
from collections.abc import Callable, Sequence

from appliance.frontend.streams.seams import OutputParser, TextTools


class ByteDetokeniser:
    """Token ids are bytes of UTF-8. An id over 255 is not in the vocabulary and raises."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Sequence[int]) -> str:
        return self._decoder.decode(bytes(ids))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class NaiveStops:
    """Holds back the longest end of the text that begins a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        text = self._held + text
        hits = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if hits:
            at, stop = min(hits)
            self._held = ""
            return text[:at], stop
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        starts = (len(text) - n for n in range(min(longest, len(text)), 0, -1))
        cut = next((s for s in starts if any(stop.startswith(text[s:]) for stop in self._stops)), len(text))
        self._held = text[cut:]
        return text[:cut], None

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held


def byte_tools(stops: Sequence[str] = (), parser: Callable[[], OutputParser | None] = lambda: None) -> TextTools:
    """Tools for token ids that are bytes."""
    return TextTools(
        detokeniser=ByteDetokeniser,
        matcher=lambda: NaiveStops(stops) if stops else None,
        parser=parser,
        token_bytes=lambda token_id: bytes([token_id]),
    )

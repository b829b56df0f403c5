"""Text out of token ids as they come, never half a character and never one lost."""

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

UTF8 = codecs.getincrementaldecoder("utf-8")
REPLACEMENT = "\ufffd"
WINDOW = 6
"""Tokens decoded again together with new ones, so that decoders which look at neighbours see them."""


class Detokeniser(Protocol):
    """Turns one stream's token ids into text. What all calls return, joined, is the text of all ids."""

    def push(self, ids: Sequence[int]) -> str:
        """The text that the new ids complete; empty while a character is not whole."""
        ...

    def finish(self) -> str:
        """What is still held, with unfinished characters replaced. Nothing may be pushed after it."""
        ...


class ByteDetokeniser(msgspec.Struct, eq=False):
    """For vocabularies whose tokens are bytes. One pushed token that is whole text costs one list look-up.

    A struct, because one is made for every choice, and that takes a third of the time of another object.
    """

    texts: list[str | None]
    octets: list[bytes]
    at_start: bool
    """The first space is still to be dropped."""
    slow: bool
    """That, or a character is unfinished."""
    decoder: codecs.IncrementalDecoder | None = None
    """Made for the first token that is no whole text."""

    def push(self, ids: Sequence[int]) -> str:
        """See `Detokeniser`. Ids that no token has give no text."""
        if not self.slow and len(ids) == 1:
            try:
                text = self.texts[ids[0]]
            except IndexError:
                return ""
            if text is not None:
                return text
        return self._decode(self._bytes_of(ids), final=False)

    def finish(self) -> str:
        """See `Detokeniser`."""
        return self._decode(b"", final=True) if self.slow else ""

    def _bytes_of(self, ids: Sequence[int]) -> bytes:
        count = len(self.octets)
        return b"".join([self.octets[token_id] for token_id in ids if 0 <= token_id < count])

    def _decode(self, data: bytes, *, final: bool) -> str:
        decoder = self.decoder
        if decoder is None:
            decoder = self.decoder = UTF8("replace")
        text = decoder.decode(data, final)
        if self.at_start and text:
            self.at_start = False
            text = text.removeprefix(" ")
        self.slow = self.at_start or bool(decoder.getstate()[0])
        return text


class WindowDetokeniser:
    """For all other decoders: decodes the last few tokens with and without the new ones and shows the difference."""

    __slots__ = ("_decode", "_ids", "_shown")

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        """The last ones of the stream."""
        self._shown = ""
        """Their text, as far as it was shown."""

    def push(self, ids: Sequence[int]) -> str:
        """See `Detokeniser`."""
        self._ids.extend(ids)
        text = self._decode(self._ids)
        if text.endswith(REPLACEMENT):  # most likely the beginning of a character
            return ""
        return self._show(text)

    def finish(self) -> str:
        """See `Detokeniser`."""
        return self._show(self._decode(self._ids))

    def _show(self, text: str) -> str:
        new = text[len(self._shown) :]
        if len(self._ids) > 2 * WINDOW:
            del self._ids[:-WINDOW]
            text = self._decode(self._ids)
        self._shown = text
        return new


class DropTokens:
    """Another detokeniser without the text of some tokens, such as end tokens among special ones that are wanted."""

    __slots__ = ("_dropped", "_inner")

    def __init__(self, inner: Detokeniser, dropped: frozenset[int]) -> None:
        self._inner = inner
        self._dropped = dropped

    def push(self, ids: Sequence[int]) -> str:
        """See `Detokeniser`."""
        if self._dropped.isdisjoint(ids):
            return self._inner.push(ids)
        return self._inner.push([token_id for token_id in ids if token_id not in self._dropped])

    def finish(self) -> str:
        """See `Detokeniser`."""
        return self._inner.finish()


class NoTokens:
    """For streams that come as text: there is nothing to turn into text."""

    def push(self, ids: Sequence[int]) -> str:
        """Nothing: the ids are only counted."""
        return ""

    def finish(self) -> str:
        """Nothing."""
        return ""

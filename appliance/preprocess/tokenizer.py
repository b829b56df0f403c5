"""The tokenizer of one model: text to token ids and back, with a word cache in front where that changes nothing."""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import trio
from tokenizers import Tokenizer

from appliance.core.errors import InvalidRequest, ModelFileBad
from appliance.preprocess.detokenise import ByteDetokeniser, Detokeniser, WindowDetokeniser
from appliance.preprocess.token_table import TokenizerDocument, build_table
from appliance.preprocess.word_cache import WordCache
from appliance.preprocess.word_cuts import can_cut_words

THREAD_CHARS = 8192
"""Texts from this length on are encoded in a thread: about 2 ms of work, as long as other streams may have to wait."""
THREADS = 2  # more would only take CPU from the token streams
LARGEST_ID = (1 << 32) - 1


class TextTokenizer:
    """Encodes and decodes for one model. Safe to use from several threads at once."""

    def __init__(self, tokenizer: Tokenizer, document: TokenizerDocument) -> None:
        self._tokenizer = tokenizer
        self._without_special: Tokenizer | None = None
        self._making = threading.Lock()
        self._threads = trio.CapacityLimiter(THREADS)
        self._table = build_table(document)
        self._shown_texts = self._table.shown_texts() if self._table else []
        self._shown_octets = self._table.shown_octets() if self._table else []
        cuts = can_cut_words(document, tokenizer.pre_tokenizer)
        self._words = WordCache(self._encode_whole) if cuts else None

    @classmethod
    def from_json(cls, data: bytes) -> "TextTokenizer":
        """Build from the bytes of a `tokenizer.json`. Takes up to a second for the largest. Raises `ModelFileBad`."""
        try:
            document = msgspec.json.decode(data, type=TokenizerDocument)
            tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises bare `Exception` for anything it cannot read
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelFileBad(f"the model's tokenizer cannot be read: {reason}") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer, document)

    @property
    def caches_words(self) -> bool:
        """Whether texts are encoded word by word."""
        return self._words is not None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text; nothing is added in front or behind.

        `special` turns special tokens in the text into their ids; without it they are ordinary text. Raises
        `InvalidRequest` for text that is no valid Unicode.
        """
        if not special:
            return _ids(self._plain(), text)
        ids = self._words.lookup(text) if self._words else None
        return self._encode_whole(text) if ids is None else ids

    async def encode_async(self, text: str, *, special: bool = True) -> list[int]:
        """Like `encode`, with long work in a thread. Cancelling waits for the thread, at most some hundred ms."""
        if len(text) < THREAD_CHARS:
            return self.encode(text, special=special)
        if special and self._words and (ids := self._words.lookup(text)) is not None:
            return ids
        tokenizer = self._tokenizer if special else self._plain()
        return await trio.to_thread.run_sync(_ids, tokenizer, text, limiter=self._threads)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids; bytes that are no text are replaced. Ids that no token has give nothing.

        Raises `InvalidRequest` for numbers that are no ids at all.
        """
        if any(not 0 <= token_id <= LARGEST_ID for token_id in ids):
            raise InvalidRequest("a token id is out of range", param="tokens")
        detokeniser = self.detokeniser(skip_special=skip_special)
        return detokeniser.push(ids) + detokeniser.finish()

    def detokeniser(self, *, skip_special: bool = True, continues: bool = False) -> Detokeniser:
        """A fresh detokeniser for one stream; what it gives, joined, equals `decode` of all its ids.

        `continues`: the text follows another one, so a vocabulary that marks words by a space in front keeps the first.
        """
        if self._table is None:
            return WindowDetokeniser(lambda ids: str(self._tokenizer.decode(ids, skip_special_tokens=skip_special)))
        strips = self._table.strips_first_space and not continues
        if skip_special:
            return ByteDetokeniser(self._shown_texts, self._shown_octets, strips, strips)
        return ByteDetokeniser(self._table.texts, self._table.octets, strips, strips)

    def plain_detokenisers(self) -> Callable[[], Detokeniser]:
        """The quickest way to what `detokeniser` gives without arguments, for who needs many."""
        if self._table is None:
            return self.detokeniser
        strips = self._table.strips_first_space
        return partial(ByteDetokeniser, self._shown_texts, self._shown_octets, strips, strips)

    def token_id(self, token: str) -> int | None:
        """Id of a token by its exact text in the vocabulary, such as a special token."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def token_text(self, token_id: int) -> str:
        """Text of one token for showing, with a replacement character where it is a part of a character."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token, special ones included; empty for an id that no token has."""
        if self._table is None:
            token: str | None = self._tokenizer.id_to_token(token_id) if 0 <= token_id <= LARGEST_ID else None
            return (token or "").encode("utf-8", "replace")
        return self._table.octets[token_id] if 0 <= token_id < len(self._table.octets) else b""

    def _encode_whole(self, text: str) -> list[int]:
        return _ids(self._tokenizer, text)

    def _plain(self) -> Tokenizer:
        """A second tokenizer that leaves special tokens alone, made when first needed: the switch is not per call."""
        with self._making:
            if self._without_special is None:
                self._without_special = Tokenizer.from_str(self._tokenizer.to_str())
                self._without_special.encode_special_tokens = True
            return self._without_special


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except (UnicodeEncodeError, TypeError):  # the library calls such a text no text at all
        raise InvalidRequest("the text holds half of a surrogate pair, which is no character") from None
    return ids

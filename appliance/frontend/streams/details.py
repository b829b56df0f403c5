"""Log-probability details of one choice, held back until the text they belong to is shown."""

from collections import deque
from collections.abc import Callable
from itertools import zip_longest

from appliance.core.requests import TokenChunk, TokenLogprob
from appliance.frontend.streams.outcome import TokenChoice, TokenDetail
from appliance.frontend.streams.seams import Detokeniser

LOWEST = -9999.0
"""Stands for minus infinity, which JSON cannot say; OpenAI uses the same number."""


class DetailQueue:
    """Details in order of their tokens. A stop string's own tokens never come out."""

    def __init__(
        self, detokeniser: Detokeniser, token_bytes: Callable[[int], bytes], top: int, *, as_ids: bool
    ) -> None:
        self._detokeniser = detokeniser
        self._token_bytes = token_bytes
        self._top = top
        self._as_ids = as_ids
        self._held: deque[TokenDetail] = deque()
        self._length = 0  # characters of text so far, shown or not
        self._shown = 0

    def push(self, chunk: TokenChunk) -> str:
        """The chunk's text, made token by token, so that each detail knows where its token starts."""
        pieces = []
        for token_id, entry in zip_longest(chunk.token_ids, chunk.logprobs or ()):
            if entry is not None:
                self._add(token_id, entry)
            piece = self._detokeniser.push((token_id,))
            pieces.append(piece)
            self._length += len(piece)
        return "".join(pieces)

    def take(self, covered: int) -> list[TokenDetail]:
        """Details of the tokens that start within the next so many characters, counted from what was covered before."""
        self._shown += covered
        taken = []
        while self._held and self._held[0].offset < self._shown:
            taken.append(self._held.popleft())
        return taken

    def take_all(self) -> list[TokenDetail]:
        """Everything held, at an end without a stop string."""
        taken = list(self._held)
        self._held.clear()
        return taken

    def _add(self, token_id: int, entry: TokenLogprob) -> None:
        name, octets = self._name(token_id)
        self._held.append(
            TokenDetail(
                token=name,
                logprob=max(entry.logprob, LOWEST),
                bytes=octets,
                top_logprobs=[self._alternative(*pair) for pair in entry.top[: self._top]],
                offset=self._length,
            )
        )

    def _alternative(self, token_id: int, logprob: float) -> TokenChoice:
        name, octets = self._name(token_id)
        return TokenChoice(token=name, logprob=max(logprob, LOWEST), bytes=octets)

    def _name(self, token_id: int) -> tuple[str, list[int]]:
        octets = self._token_bytes(token_id)
        name = f"token_id:{token_id}" if self._as_ids else octets.decode("utf-8", "replace")
        return name, list(octets)

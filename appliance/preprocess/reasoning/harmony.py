"""The reasoning parser of gpt-oss, whose output is a row of messages, each for one channel.

A message is a header, `<|message|>`, a body, and an ending mark:
`<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>`.
Most pieces of the header may be missing. The prompt ends with `<|start|>assistant`, so output begins inside a header.
"""

import re
from enum import Enum, auto

from appliance.core.output import ReasoningPart, TextPart
from appliance.preprocess.reasoning.parts import PartList, ReasonedPart

HEADER_CHARS = 512
"""A header is shorter: a channel, a format and a recipient. Longer ones are text, so that no text waits for ever."""
CALL_END = "<|call|>"
MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", CALL_END)
LONGEST = max(map(len, MARKS))

_BETWEEN_MESSAGES = re.compile(r"<\|(?:start|channel|message|end|return|call)\|>")
_END_OF_BODY = re.compile(r"<\|(?:start|channel|end|return|call)\|>")
_END_OF_HEADER = re.compile(r"<\|(?:start|message|end|return|call)\|>")
_ENDINGS = frozenset({"<|end|>", "<|return|>", CALL_END})
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_USUAL_CALL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>commentary to=[^\s<]+[^<]*(?:<\|constrain\|>[^<]*)?")
_FIRST_RECIPIENT = " to="
"""What output can begin with when the recipient comes before the channel: the rest of a header in the prompt."""


class _State(Enum):
    BEGIN = auto()
    BETWEEN = auto()
    HEADER = auto()
    BODY = auto()


class _Body(Enum):
    TEXT = auto()
    REASONING = auto()
    CALL = auto()


class HarmonyReasoning:
    """Messages of the analysis channel are reasoning, all others text; headers and marks are not shown.

    Only a call, a message to a recipient, keeps its header and always ends with `<|call|>`, for the parser of tool
    calls to read. Messages whose ending mark is missing end where the next one begins. A header without a body is
    dropped.
    """

    __slots__ = ("_body", "_held", "_state")

    def __init__(self, *, starts_inside: bool | None) -> None:
        """True, False: the prompt ended with the header of a reasoning, or of a text. None: inside a header."""
        self._state = _State.BEGIN if starts_inside is None else _State.BODY
        self._body = _Body.REASONING if starts_inside else _Body.TEXT
        self._held = ""

    def push(self, text: str) -> list[ReasonedPart]:
        """The parts that the new text makes certain."""
        parts = PartList()
        text, self._held = self._held + text, ""
        place: int | None = 0
        while place is not None:
            if self._state is _State.HEADER:
                place = self._read_header(text, place, parts)
            elif self._state is _State.BODY:
                place = self._read_body(text, place, parts)
            elif self._state is _State.BEGIN:
                place = self._begin(text)
            else:
                place = self._read_between(text, place, parts)
        return parts.take()

    def finish(self) -> list[ReasonedPart]:
        """What was held back and is no markup."""
        held, self._held = self._held, ""
        if not held or (self._state is _State.HEADER and _holds_mark(held)):
            return []
        return [self._kind()(held)]

    # Each step goes on from `place` and returns where the next one begins; None when the text is used up.

    def _begin(self, text: str) -> int | None:
        if _FIRST_RECIPIENT.startswith(text):  # also when there is no text yet
            self._held = text
            return None
        self._state = _State.HEADER if text.startswith(_FIRST_RECIPIENT) else _State.BETWEEN
        return 0

    def _read_between(self, text: str, place: int, parts: PartList) -> int | None:
        """Text outside of any message is shown as it is; ending marks are not."""
        match = _BETWEEN_MESSAGES.search(text, place)
        if match is None:
            self._show_but_possible_mark(text, place, parts)
            return None
        parts.add(TextPart, text[place : match.start()])
        if match.group() in _ENDINGS:
            return match.end()
        self._state = _State.HEADER
        return match.start()

    def _read_header(self, text: str, place: int, parts: PartList) -> int | None:
        limit = place + HEADER_CHARS
        first = len("<|start|>") if text.startswith("<|start|>", place) else 0
        match = _END_OF_HEADER.search(text, place + first, limit + LONGEST)
        if match is None and len(text) < limit + LONGEST:
            self._held = text[place:]
            return None
        end = limit if match is None else min(match.start(), limit)
        header = text[place:end]
        if match is not None and end < limit and match.group() == "<|message|>":
            self._open_body(header, parts)
            return match.end()
        if end == limit or not _holds_mark(header):
            parts.add(TextPart, header)
        self._state = _State.BETWEEN
        return end

    def _open_body(self, header: str, parts: PartList) -> None:
        self._state = _State.BODY
        channels = _CHANNEL.findall(header)
        channel = channels[-1] if channels else "final"
        recipient = _recipient(header)
        if recipient is not None and (channel != "analysis" or recipient.startswith("functions.")):
            self._body = _Body.CALL
            parts.add(TextPart, _call_header(header, recipient) + "<|message|>")
        else:
            self._body = _Body.REASONING if channel == "analysis" else _Body.TEXT

    def _read_body(self, text: str, place: int, parts: PartList) -> int | None:
        match = _END_OF_BODY.search(text, place)
        if match is None:
            self._show_but_possible_mark(text, place, parts)
            return None
        parts.add(self._kind(), text[place : match.start()])
        if self._body is _Body.CALL:
            parts.add(TextPart, CALL_END)
        self._state, self._body = _State.BETWEEN, _Body.TEXT
        return match.end() if match.group() in _ENDINGS else match.start()

    def _show_but_possible_mark(self, text: str, place: int, parts: PartList) -> None:
        """Show the text but for an end that a mark might begin with."""
        start = text.rfind("<", max(place, len(text) - LONGEST + 1))
        if start < 0 or not any(mark.startswith(text[start:]) for mark in MARKS):
            start = len(text)
        parts.add(self._kind(), text[place:start])
        self._held = text[start:]

    def _kind(self) -> type[TextPart] | type[ReasoningPart]:
        return ReasoningPart if self._body is _Body.REASONING else TextPart


def _holds_mark(header: str) -> bool:
    return _BETWEEN_MESSAGES.search(header) is not None


def _recipient(header: str) -> str | None:
    """Whom a message is for; None for the user. `assistant` is what tools answer to, and no call."""
    match = _RECIPIENT.search(header)
    return None if match is None or match.group(1) == "assistant" else match.group(1)


def _call_header(header: str, recipient: str) -> str:
    """A call's header as it is, or in the usual spelling, when the recipient is somewhere else."""
    if _USUAL_CALL.fullmatch(header):
        return header
    return f"<|channel|>commentary to={recipient} <|constrain|>json"

"""Makes the reasoning parser of a name, and sees from a prompt how the output begins."""

from typing import Protocol

from appliance.core.output import TextPart
from appliance.preprocess.reasoning.families import family
from appliance.preprocess.reasoning.harmony import HarmonyReasoning
from appliance.preprocess.reasoning.marks import MarkedReasoning
from appliance.preprocess.reasoning.parts import ReasonedPart

_HARMONY_REASONING = "<|channel|>analysis<|message|>"
_HARMONY_TEXT = "<|channel|>final<|message|>"


class ReasoningParser(Protocol):
    """Splits one stream's text into reasoning and the rest, the same for any cutting of the text into pieces.

    Takes time linear in the text. No text raises an error.
    """

    def push(self, text: str) -> list[ReasonedPart]:
        """The parts that the new text makes certain, in order; neighbours are of different kinds."""
        ...

    def finish(self) -> list[ReasonedPart]:
        """What was held back. Nothing may be pushed after it."""
        ...


def make_reasoning_parser(name: str, *, starts_inside: bool | None = None) -> ReasoningParser:
    """A parser for one stream.

    `starts_inside` is what `reasoning_at_start` says of the prompt; None leaves it to the family. Raises `UsageError`
    for an unknown name.
    """
    marks, name = family(name).marks, name.lower()
    if name == "gpt_oss":
        return HarmonyReasoning(starts_inside=starts_inside)
    if marks is None:
        return AppendThink()
    return MarkedReasoning(marks, starts_inside=marks.forced if starts_inside is None else starts_inside)


def reasoning_at_start(name: str, prompt: str) -> bool | None:
    """Whether output that follows this prompt begins inside of reasoning; None when the prompt does not say.

    True when the prompt ends with an opening mark; False when it ends with a closing one, as templates write it to
    turn thinking off. White space at the end does not count. Raises `UsageError` for an unknown name.
    """
    marks = family(name).marks
    if name.lower() == "gpt_oss":
        opens: tuple[str, ...] = (_HARMONY_REASONING,)
        closes: tuple[str, ...] = (_HARMONY_TEXT,)
    elif marks is None:
        return None
    else:
        opens, closes = marks.opens, marks.closes
    end = prompt[-200:].rstrip()
    if end.endswith(tuple(mark.rstrip() for mark in opens)):
        return True
    return False if end.endswith(closes) else None


def prompt_opens_reasoning(name: str, prompt: str) -> bool:
    """Whether the prompt ends with the opening mark of reasoning. Raises `UsageError` for an unknown name."""
    return reasoning_at_start(name, prompt) is True


class AppendThink:
    """Puts `<think>` in front of the output and splits nothing: MiniMax clients want to see it and do it themselves."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = False

    def push(self, text: str) -> list[ReasonedPart]:
        """See `ReasoningParser`."""
        if not text:
            return []
        begun, self._begun = self._begun, True
        return [TextPart(text if begun else "<think>" + text)]

    def finish(self) -> list[ReasonedPart]:
        """See `ReasoningParser`."""
        return []

"""Cuts text into pieces in several ways, and joins the parts that a parser makes of them."""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from appliance.core.output import OutputPart, ToolCallPart


def cuttings(text: str) -> Iterator[list[str]]:
    """The text in single characters, by threes, at random places, and whole."""
    random = Random(text)
    places = sorted(random.choices(range(len(text) + 1), k=len(text) // 4 + 1))
    yield list(text)
    yield [text[i : i + 3] for i in range(0, len(text), 3)]
    yield [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    yield [text]


def parse(push: Callable[[str], Sequence[OutputPart]], pieces: list[str]) -> list[OutputPart]:
    """All parts of all pieces, not joined. Fails when one push makes two neighbours of one kind."""
    parts: list[OutputPart] = []
    for piece in pieces:
        new = push(piece)
        assert merged(new) == list(new)
        parts += new
    return parts


def merged(parts: Sequence[OutputPart]) -> list[OutputPart]:
    """The same parts, neighbours of one kind made one."""
    result: list[OutputPart] = []
    for part in parts:
        last = result[-1] if result else None
        if last is None or type(last) is not type(part) or isinstance(part, ToolCallPart):
            result.append(part)
        else:
            assert not isinstance(last, ToolCallPart)
            result[-1] = type(last)(last.text + part.text)
    return result

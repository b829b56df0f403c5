"""What a grammar makes of one answer's text: text shown at once, and blocks that become calls or go on as text."""

from appliance.core.output import OutputPart, TextPart, ToolCallPart
from appliance.preprocess.tool_calls.markers import Markers
from appliance.preprocess.tool_calls.reading import NO_SPACE, Ended, Reader, Steps, T
from appliance.preprocess.tool_calls.splitters import Malformed


class Source(Reader):
    """Gives a grammar the text and collects the parts. Everything read in a block is kept until it has given a call."""

    __slots__ = ("_opening", "_parts", "_shown", "_watched", "opened_line")

    def __init__(self) -> None:
        super().__init__()
        self._opening = ""
        """The block's opening marker until the block has given a call."""
        self._shown: list[str] = []
        self._parts: list[OutputPart] = []
        self._watched: Markers | None = None
        """What is looked for, while more text is waited for and nothing is held back."""
        self.opened_line = True
        """The line shown last is blank so far."""

    def drain(self) -> list[OutputPart]:
        """The parts found since the last call."""
        self._flush()
        parts, self._parts = self._parts, []
        return parts

    def passes(self, text: str) -> bool:
        """Whether the new text is nothing but text; then it need not be fed."""
        if self._watched is None or not self._watched.absent(text):
            return False
        if self.opened_line or "\n" in text:
            self._follow_line(text)
        return True

    def text_until(self, markers: Markers) -> Steps[str | None]:
        """Shows text up to the first marker and returns that marker, read; None at the end of all text."""
        while True:
            found = markers.search(self._text, self._at)
            if found:
                self._show(found.start())
                self._at = found.end()
                return found.group()
            self._show(len(self._text) if self.ended else markers.possible_start(self._text, self._at))
            if self.ended:
                return None
            self._watched = markers if self._at == len(self._text) else None
            yield
            self._watched = None

    def begins_with(self, char: str) -> Steps[bool]:
        """Shows white space; whether the text goes on with this character, which is not read."""
        while True:
            found = NO_SPACE.search(self._text, self._at)
            self._show(found.start() if found else len(self._text))
            if found or self.ended:
                return bool(found) and self._text[self._at] == char
            yield

    def block(self, opening: str, steps: Steps[None]) -> Steps[bool]:
        """Runs the steps of one block that began with `opening`; False when it was none, or was cut.

        Of a block that does not fit, the opening goes on as text and what follows is read again as text. A block cut
        by the end of a truncated answer is dropped; cut by the end the model chose, it goes on as text.
        """
        self._mark, self._opening = self._at, opening
        fits = False
        try:
            yield from steps
            fits = True
        except Malformed:
            self.back()
            self._put(self._opening)
        except Ended:
            if not self.truncated:
                self.back()
                self._put(self._opening)
                self._show(len(self._text))
            self._at = len(self._text)
        self._mark, self._older = None, []
        return fits

    def emit(self, call: ToolCallPart) -> None:
        """Gives a call; what was read up to here has become it."""
        self._flush()
        self._parts.append(call)
        self.commit()

    def commit(self) -> None:
        """Declares what was read up to here as understood; it will not become text any more."""
        self._mark, self._older, self._opening = self._at, [], ""

    def attempt(self, steps: Steps[T]) -> Steps[T | None]:
        """What the steps return; None, and back at the last commit, when they do not fit or the text ends.

        What the end of a truncated answer cut in the middle of such steps is dropped with the block.
        """
        try:
            return (yield from steps)
        except Malformed:
            self.back()
        except Ended:
            self.back()
            if self.truncated and self._text[self._at :].strip():
                raise
        return None

    def closing(self, markers: Markers) -> Steps[None]:
        """Drops the closing markers that follow a commit, also repeated ones. A missing one is forgiven."""
        closed = False
        while (yield from self.attempt(self.one_of(markers))):
            self.commit()
            closed = True
        if self.ended and not closed and self._begins(markers):
            self._at = len(self._text)
            self.commit()

    def _show(self, end: int) -> None:
        if end > self._at:
            self._put(self._text[self._at : end])
            self._at = end

    def _put(self, text: str) -> None:
        self._shown.append(text)
        self._follow_line(text)

    def _follow_line(self, text: str) -> None:
        line = text.rfind("\n") + 1
        self.opened_line = (bool(line) or self.opened_line) and not text[line:].strip()

    def _flush(self) -> None:
        text = "".join(self._shown)
        self._shown.clear()
        if text:
            self._parts.append(TextPart(text))

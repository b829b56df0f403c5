"""The answer format of the Responses protocol, as streams use it: one choice, whose items it cuts and numbers."""

from collections.abc import Sequence

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.frontend.protocols.responses.document import ResponseHead, encode, outcome_items
from appliance.frontend.protocols.responses.events import OPENING_EVENTS, ItemFrames, Numbering
from appliance.frontend.streams.outcome import ChoiceOutcome, Members, Usage


class ResponsesFormat:
    """An `AnswerFormat`. Its frames know what was shown, and so what the last event has to repeat."""

    def __init__(self, request: GenerationRequest) -> None:
        self._head = ResponseHead(request)
        self._numbering = Numbering(OPENING_EVENTS)
        self._frames = ItemFrames(self._head, self._numbering)

    def frames(self, index: int) -> ItemFrames:
        """See `AnswerFormat`; there is one choice only."""
        return self._frames

    def opening(self, prompt_tokens: int) -> bytes:
        """The response, created and in progress."""
        begun, numbering = {"response": self._head.response("in_progress")}, Numbering(0)
        return numbering.event("response.created", begun) + numbering.event("response.in_progress", begun)

    def ping(self) -> bytes:
        """A comment."""
        return b": ping\n\n"

    def closing(self, usage: Usage | None) -> bytes:
        """The end of the last item, and the whole response; the public protocol has no further end mark."""
        frames = self._frames
        status = "incomplete" if frames.finish == "length" else "completed"
        ended = frames.end_output(status)
        response = self._head.response(status, frames.items, usage=usage, nvext=frames.nvext)
        return ended + self._event(f"response.{status}", response=response)

    def failure(self, error: ApplianceError) -> bytes:
        """The error as an event, and the response as far as it came."""
        frames = self._frames
        ended = frames.end_item("incomplete")
        told = self._event("error", code=error.code, message=error.message, param=error.param)
        response = self._head.response("failed", frames.items, error=error, nvext=frames.nvext)
        return ended + told + self._event("response.failed", response=response)

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """See `AnswerFormat`."""
        status = "incomplete" if choices[0].finish == "length" else "completed"
        return encode(self._head.response(status, outcome_items(self._head, choices[0]), usage=usage, nvext=nvext))

    def _event(self, name: str, /, **members: object) -> bytes:
        return self._numbering.event(name, members)

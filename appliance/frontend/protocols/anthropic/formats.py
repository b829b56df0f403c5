"""The answer format of `POST /v1/messages`: a message of content blocks, whole or as a stream of events."""

from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.core.output import OutputPart, ReasoningPart, TextPart
from appliance.frontend.protocols.anthropic.sse import SIGNATURE, MessageFrames, event
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Members, Usage
from appliance.web.errors import error_body

STOP_REASONS: dict[Finish, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessagesFormat:
    """An `AnswerFormat` with one choice, whose end is told by the format's closing."""

    def __init__(self, request: GenerationRequest) -> None:
        self._head: dict[str, Any] = {
            "id": "msg_" + request.id.replace("-", ""),
            "type": "message",
            "role": "assistant",
            "model": request.model,
        }
        self._frames = MessageFrames()

    def frames(self, index: int) -> MessageFrames:
        """See `AnswerFormat`. There is one choice."""
        return self._frames

    def opening(self, prompt_tokens: int) -> bytes:
        """The message without content. How much of the prompt was cached is known at the end only."""
        message = {**self._head, "content": [], **_ending(None, None)}
        usage = usage_object(Usage(prompt_tokens=prompt_tokens, completion_tokens=0))
        return event("message_start", message={**message, "usage": usage})

    def ping(self) -> bytes:
        """See `AnswerFormat`."""
        return event("ping")

    def closing(self, usage: Usage | None) -> bytes:
        """Why the message ended, the final counts, and the end."""
        members = {} if usage is None else {"usage": usage_object(usage)}
        delta = _ending(self._frames.finish, self._frames.stop_string)
        return event("message_delta", delta=delta, **members) + event("message_stop")

    def failure(self, error: ApplianceError) -> bytes:
        """An error event; nothing comes after it."""
        return event("error", error=error_body(error, "/v1/messages")["error"])

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """See `AnswerFormat`."""
        outcome = choices[0]
        return msgspec.json.encode(
            {
                **self._head,
                "content": [_block(part) for part in outcome.parts],
                **_ending(outcome.finish, outcome.stop_string),
                "usage": usage_object(usage),
            }
        )


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` in Anthropic's shape: cached tokens are not among the input tokens but beside them.

    Prompts that only the worker tokenizes count nothing here, though the worker may tell how much of them was cached.
    """
    return {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _ending(finish: Finish | None, stop_string: str | None) -> dict[str, Any]:
    """Why a message ended. A call is more important than the stop string behind it: the client has to act on it."""
    if finish is None:
        return {"stop_reason": None, "stop_sequence": None}
    if finish == "stop" and stop_string is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_string}
    return {"stop_reason": STOP_REASONS[finish], "stop_sequence": None}


def _block(part: OutputPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ReasoningPart):
        return {"type": "thinking", "thinking": part.text, "signature": SIGNATURE}
    arguments = msgspec.Raw(part.arguments.encode())  # as they are, so that order and numbers stay
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}

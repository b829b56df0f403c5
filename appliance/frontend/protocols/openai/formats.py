"""The two answer formats of the OpenAI family, as streams use them."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.frontend.protocols.openai.dispatch import NO_DISPATCH, Dispatch, DispatchingFrames
from appliance.frontend.protocols.openai.documents import (
    chat_document,
    completion_document,
    encode,
    usage_object,
)
from appliance.frontend.protocols.openai.sse import DONE, ChatFrames, CompletionFrames, data_event
from appliance.frontend.streams.outcome import ChoiceOutcome, Members, Usage
from appliance.frontend.streams.seams import ChoiceFrames
from appliance.web.errors import error_body

Document = Callable[[dict[str, Any], Sequence[ChoiceOutcome], Usage, Members | None], bytes]


class OpenAiFormat:
    """An `AnswerFormat`; made by `chat_format` and `completion_format`. Holds no state of the answer."""

    def __init__(
        self,
        request: GenerationRequest,
        *,
        id_prefix: str,
        object_names: tuple[str, str],
        frames: Callable[[bytes, int], ChoiceFrames],
        document: Document,
        constants: tuple[str, ...],
    ) -> None:
        unary_object, chunk_object = object_names
        self._head: dict[str, Any] = {
            "id": id_prefix + request.id,
            "object": unary_object,
            "created": int(time.time()),
            "model": request.model,
            **dict.fromkeys(constants),
        }
        self._chunk_object = chunk_object
        self._frames = frames
        self._document = document

    def frames(self, index: int) -> ChoiceFrames:
        """See `AnswerFormat`."""
        return self._frames(encode(self._chunk_head())[:-1], index)

    def opening(self, prompt_tokens: int) -> bytes:
        """Nothing: the first chunk opens the answer."""
        return b""

    def ping(self) -> bytes:
        """Nothing: an error in front of the first token stays an HTTP error."""
        return b""

    def closing(self, usage: Usage | None) -> bytes:
        """A chunk without choices that has the usage, when wanted; then the end mark."""
        if usage is None:
            return DONE
        return data_event({**self._chunk_head(), "choices": [], "usage": usage_object(usage)}) + DONE

    def failure(self, error: ApplianceError) -> bytes:
        """An event with the error body; then the end mark."""
        return data_event(error_body(error, "/v1")) + DONE

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """See `AnswerFormat`."""
        return self._document(self._head, choices, usage, nvext)

    def _chunk_head(self) -> dict[str, Any]:
        return {**self._head, "object": self._chunk_object}


def chat_format(request: GenerationRequest, *, dispatch: Dispatch = NO_DISPATCH) -> OpenAiFormat:
    """The format of an answer to `POST /v1/chat/completions`."""
    frames: Callable[[bytes, int], ChoiceFrames] = ChatFrames
    if dispatch.tools or dispatch.reasoning:
        frames = partial(DispatchingFrames, dispatch=dispatch)
    return OpenAiFormat(
        request,
        id_prefix="chatcmpl-",
        object_names=("chat.completion", "chat.completion.chunk"),
        frames=frames,
        document=chat_document,
        constants=("service_tier", "system_fingerprint"),
    )


def completion_format(request: GenerationRequest) -> OpenAiFormat:
    """The format of an answer to `POST /v1/completions`."""
    return OpenAiFormat(
        request,
        id_prefix="cmpl-",
        object_names=("text_completion", "text_completion"),
        frames=CompletionFrames,
        document=completion_document,
        constants=("system_fingerprint",),
    )

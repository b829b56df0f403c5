"""The two answer formats of the OpenAI family, as streams use them."""

import time
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.core.identity import ModelName
from appliance.frontend.protocols.openai.dispatch import NO_DISPATCH, Dispatch, DispatchingFrames
from appliance.frontend.protocols.openai.documents import (
    ChatDocument,
    ChatHead,
    CompletionDocument,
    CompletionHead,
    chat_choices,
    completion_choices,
    encode,
    usage_object,
)
from appliance.frontend.protocols.openai.sse import DONE, ChatFrames, CompletionFrames, data_event
from appliance.frontend.streams.outcome import ChoiceOutcome, Members, Usage
from appliance.frontend.streams.seams import ChoiceFrames
from appliance.web.errors import error_body

CHAT, CHAT_CHUNK, COMPLETION = "chat.completion", "chat.completion.chunk", "text_completion"


class _OpenAiFormat(msgspec.Struct, frozen=True, gc=False):
    """What the two formats share: who the answer is, and how its streams end. Holds no state of the answer."""

    id: str
    created: int
    model: ModelName

    def opening(self, prompt_tokens: int) -> bytes:
        """Nothing: the first chunk opens the answer."""
        return b""

    def ping(self) -> bytes:
        """Nothing: an error in front of the first token stays an HTTP error."""
        return b""

    def closing(self, usage: Usage | None) -> bytes:
        """A chunk without choices that has the usage, when wanted; then the end mark."""
        return DONE if usage is None else data_event(self._usage_chunk(usage)) + DONE

    def failure(self, error: ApplianceError) -> bytes:
        """An event with the error body; then the end mark."""
        return data_event(error_body(error, "/v1")) + DONE

    def _usage_chunk(self, usage: Usage) -> ChatDocument | CompletionDocument:
        raise NotImplementedError


class ChatFormat(_OpenAiFormat, frozen=True, gc=False):
    """The `AnswerFormat` of `POST /v1/chat/completions`."""

    dispatch: Dispatch

    def frames(self, index: int) -> ChoiceFrames:
        """See `AnswerFormat`."""
        stem = encode(ChatHead(self.id, CHAT_CHUNK, self.created, self.model))[:-1]
        if self.dispatch.tools or self.dispatch.reasoning:
            return DispatchingFrames(stem, index, dispatch=self.dispatch)
        return ChatFrames(stem, index)

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """See `AnswerFormat`."""
        document = ChatDocument(
            self.id,
            CHAT,
            self.created,
            self.model,
            choices=chat_choices(choices),
            usage=usage_object(usage),
            nvext=nvext or UNSET,
        )
        return encode(document)

    def _usage_chunk(self, usage: Usage) -> ChatDocument:
        return ChatDocument(self.id, CHAT_CHUNK, self.created, self.model, choices=[], usage=usage_object(usage))


class CompletionFormat(_OpenAiFormat, frozen=True, gc=False):
    """The `AnswerFormat` of `POST /v1/completions`; chunks and whole answers are the same object there."""

    def frames(self, index: int) -> ChoiceFrames:
        """See `AnswerFormat`."""
        head = CompletionHead(self.id, COMPLETION, self.created, self.model)
        return CompletionFrames(encode(head)[:-1], index)

    def document(self, choices: Sequence[ChoiceOutcome], usage: Usage, nvext: Members | None) -> bytes:
        """See `AnswerFormat`."""
        document = CompletionDocument(
            self.id,
            COMPLETION,
            self.created,
            self.model,
            choices=completion_choices(choices),
            usage=usage_object(usage),
            nvext=nvext or UNSET,
        )
        return encode(document)

    def _usage_chunk(self, usage: Usage) -> CompletionDocument:
        return CompletionDocument(self.id, COMPLETION, self.created, self.model, choices=[], usage=usage_object(usage))


def chat_format(request: GenerationRequest, *, dispatch: Dispatch = NO_DISPATCH) -> ChatFormat:
    """The format of an answer to `POST /v1/chat/completions`."""
    return ChatFormat("chatcmpl-" + request.id, int(time.time()), request.model, dispatch)


def completion_format(request: GenerationRequest) -> CompletionFormat:
    """The format of an answer to `POST /v1/completions`."""
    return CompletionFormat("cmpl-" + request.id, int(time.time()), request.model)

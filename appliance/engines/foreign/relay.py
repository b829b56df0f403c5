"""One generation: ask the server, read its stream, hand the steps to the sink."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from appliance.core.errors import ApplianceError, EngineFailed
from appliance.core.ports import TokenSink
from appliance.core.requests import EngineUsage, FinishReason, TokenLogprob
from appliance.engines.foreign.refusals import refusal, refusal_in_stream
from appliance.engines.http.client import HttpClient, StreamedAnswer, read_json
from appliance.engines.http.connection import ServerLost
from appliance.engines.http.sse import SseReader

DONE = b"[DONE]"
LAST_BYTES_S = 0.25  # for the end of the body behind the last event, without which the connection cannot be kept


@dataclass
class Step:
    """What some events gave together."""

    token_ids: list[int] = field(default_factory=list)
    text: str | None = None
    logprobs: list[TokenLogprob] | None = None

    def add(self, other: "Step") -> None:
        self.token_ids += other.token_ids
        if other.text is not None:
            self.text = (self.text or "") + other.text
        if other.logprobs is not None:
            self.logprobs = (self.logprobs or []) + other.logprobs


class EventReader(Protocol):
    """Reads the events of one server's dialect; made for one stream."""

    finish: FinishReason | None
    """Known once an event has said it; more events may follow, with the usage."""

    def take(self, event: dict[str, Any]) -> Step:
        """What one event adds. Raises `EngineFailed` for one that says so or cannot be read."""
        ...

    def end(self) -> Step:
        """What is left to show at the end."""
        ...

    def usage(self) -> EngineUsage:
        """Counts at the end."""
        ...

    def handover(self) -> dict[str, Any] | None:
        """At the end of a prefill: what decode needs."""
        ...


async def relay(
    client: HttpClient,
    path: str,
    body: dict[str, Any],
    reader: EventReader,
    sink: TokenSink,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Run one stream to its end. Raises what the server's refusal means, and `ServerLost` when it breaks off.

    Cancelling closes the connection, by which the server knows that nobody wants the stream any more.
    """
    async with client.stream("POST", path, body, headers=headers) as answer:
        if answer.status != 200:
            raise refusal(await answer.read_all())
        if answer.is_event_stream:
            await _relay_events(answer, reader, sink)
        else:
            whole = Step()
            _take(reader, [(await answer.read_all()).body], whole)
            _finish(reader, sink, whole)


async def _relay_events(answer: StreamedAnswer, reader: EventReader, sink: TokenSink) -> None:
    sse = SseReader()
    while (events := await answer.read_events(sse)) is not None:
        step = Step()
        try:
            _take(reader, [event for event in events if event != DONE], step)
        except ApplianceError:
            _show(sink, step)  # what came before the failure is good
            raise
        if DONE in events:
            _finish(reader, sink, step)
            with trio.move_on_after(LAST_BYTES_S):
                await answer.read_all()
            return
        if _show(sink, step):
            await sink.room()
    _finish(reader, sink, Step())


def _show(sink: TokenSink, step: Step) -> bool:
    if not (step.token_ids or step.text):
        return False
    sink.emit(step.token_ids, None, None, step.logprobs, None, step.text)
    return True


def _take(reader: EventReader, events: list[bytes], whole: Step) -> None:
    """Add what the events give to a step, up to the first that fails."""
    for data in events:
        event = read_json(data)
        if not isinstance(event, dict):
            raise EngineFailed("the engine sent an event that cannot be read")
        if event.get("error"):
            raise refusal_in_stream(event)
        try:
            whole.add(reader.take(event))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise EngineFailed("the engine sent an event that cannot be read") from None


def _finish(reader: EventReader, sink: TokenSink, step: Step) -> None:
    if reader.finish is None:
        raise ServerLost("the server ended the stream before its last token")
    step.add(reader.end())
    sink.emit(step.token_ids, reader.finish, reader.usage(), step.logprobs, reader.handover(), step.text)

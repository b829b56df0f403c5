"""Any parts in any order: a stream puts together to the very message that is sent in one piece."""

import json
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.frontend.protocols.anthropic.formats import MessagesFormat
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Usage
from appliance.frontend.streams.parsed_text import merged
from tests.helpers.messages import message_request, put_together, read_named_events

texts = st.text(min_size=1, max_size=4)
calls = st.builds(
    ToolCallPart, index=st.just(0), id=texts, name=texts, arguments=st.dictionaries(texts, texts).map(json.dumps)
)
parts = st.lists(st.one_of(st.builds(TextPart, texts), st.builds(ReasoningPart, texts), calls), max_size=8)
finishes: st.SearchStrategy[Finish] = st.sampled_from(["stop", "length", "tool_calls"])


@given(parts=parts, last=st.text(max_size=2), finish=finishes, stop_string=st.none() | texts)
def test_stream_and_document_agree(parts: list[OutputPart], last: str, finish: Finish, stop_string: str | None) -> None:
    made = MessagesFormat(message_request())
    frames = made.frames(0)
    events = [frames.text(part.text) if isinstance(part, TextPart) else frames.part(part) for part in parts]
    events.append(frames.event(last, finish=finish, stop_string=stop_string))
    usage = Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2)
    body = b"".join([made.opening(5), *events, made.closing(usage)])

    every = merged([*parts, TextPart(last)])
    outcome = ChoiceOutcome(index=0, text="", finish=finish, parts=every, stop_string=stop_string)
    assert put_together(read_named_events(body)) == json.loads(made.document([outcome], usage, None))


@given(parts=parts)
def test_each_run_of_thinking_is_signed_once(parts: list[OutputPart]) -> None:
    made = MessagesFormat(message_request())
    frames = made.frames(0)
    body = b"".join(frames.text(p.text) if isinstance(p, TextPart) else frames.part(p) for p in parts)
    body += frames.event("", finish="stop")
    runs = sum(kind is ReasoningPart for kind, _ in groupby(parts, type))
    assert body.count(b'"signature_delta"') == runs

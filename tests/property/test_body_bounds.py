"""Numbers of a body are checked while it is read, as they would be checked behind it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import InvalidRequest
from appliance.frontend.protocols.anthropic.schema import MessagesBody
from appliance.frontend.protocols.anthropic.validate import MESSAGES_BOUNDS
from appliance.frontend.protocols.openai.bodies import BodyReader
from appliance.frontend.protocols.openai.bounds import Bounds, check_bounds
from appliance.frontend.protocols.openai.chat_schema import ChatBody
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.validate import CHAT_BOUNDS, COMPLETION_BOUNDS, EMBEDDING_BOUNDS
from appliance.frontend.protocols.responses.schema import ResponsesBody
from appliance.frontend.protocols.responses.validate import BOUNDS as RESPONSES_BOUNDS

KINDS: list[tuple[type[msgspec.Struct], Sequence[Bounds]]] = [
    (ChatBody, CHAT_BOUNDS),
    (CompletionBody, COMPLETION_BOUNDS),
    (EmbeddingBody, EMBEDDING_BOUNDS),
    (ResponsesBody, RESPONSES_BOUNDS),
    (MessagesBody, MESSAGES_BOUNDS),
]
REQUIRED: dict[type[msgspec.Struct], dict[str, Any]] = {
    ChatBody: {"model": "m", "messages": []},
    CompletionBody: {"model": "m"},
    EmbeddingBody: {"model": "m", "input": "x"},
    ResponsesBody: {"model": "m", "input": "x"},
    MessagesBody: {"model": "m", "messages": [], "max_tokens": 1},
}
Read = Callable[[type[msgspec.Struct], Sequence[Bounds], bytes], msgspec.Struct]
each_kind = pytest.mark.parametrize(("kind", "bounds"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])


def numbers(bound: Bounds) -> st.SearchStrategy[Any]:
    """Values at the bounds, around them and far away, and none at all."""
    edges = [bound.low, bound.high, bound.low - 1, bound.high + 1, bound.low + 0.5, 0, 5e-324, -0.0, 2**63, 2**64, None]
    return st.sampled_from(edges) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def read_then_check(kind: type[msgspec.Struct], bounds: Sequence[Bounds], body: bytes) -> msgspec.Struct:
    read = BodyReader(kind).read(body)
    check_bounds(read, bounds)
    return read


def check_while_reading(kind: type[msgspec.Struct], bounds: Sequence[Bounds], body: bytes) -> msgspec.Struct:
    return BodyReader(kind, bounds).read(body)


def outcome(read: Read, kind: type[msgspec.Struct], bounds: Sequence[Bounds], body: bytes) -> list[Any] | str:
    """The numbers that were read, or the complaint."""
    try:
        found = read(kind, bounds, body)
    except InvalidRequest as error:
        return error.message
    return [getattr(found, bound.param) for bound in bounds]


@each_kind
@given(data=st.data())
def test_the_decoder_checks_what_the_table_says(
    kind: type[msgspec.Struct], bounds: Sequence[Bounds], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(bounds), max_size=4, unique=True))
    body = json.dumps(REQUIRED[kind] | {bound.param: data.draw(numbers(bound)) for bound in chosen}).encode()
    assert outcome(check_while_reading, kind, bounds, body) == outcome(read_then_check, kind, bounds, body)


@each_kind
def test_every_bound_is_known_to_the_decoder(kind: type[msgspec.Struct], bounds: Sequence[Bounds]) -> None:
    """A body that is read at once would be taken with numbers out of bounds, were they not."""
    decode = BodyReader(kind, bounds)._decode
    for bound in bounds:
        decode(json.dumps(REQUIRED[kind] | {bound.param: bound.high}).encode())
        for wrong in (bound.low - 1, bound.high + 1):
            with pytest.raises(msgspec.ValidationError):
                decode(json.dumps(REQUIRED[kind] | {bound.param: wrong}).encode())

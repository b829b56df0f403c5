"""Messages on the link between a front end and a worker. Each is one msgpack array: an integer tag, then the fields.

The front end sends Request, Cancel, Ping, FileCall, TokenizeCall, DetokenizeCall, KvQuery; the worker sends the rest.
`call` numbers are chosen by the caller and come back in the answer. Fields may only be added at the end.
"""

import msgspec

from appliance.core.identity import Digest
from appliance.core.kv_events import KvEvent, KvReply
from appliance.core.records import RankLoad
from appliance.core.requests import EngineRequest, ModelCard, TokenChunk

PROTOCOL = 1


class Hello(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """First message of a worker on a new link."""

    protocol: int
    worker: str
    card: ModelCard


class Request(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Start a stream (or an embedding, by the request's task) under a number that is unused on this link."""

    stream: int
    request: EngineRequest


class Cancel(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Give a stream up. Chunks already under way may still arrive and are dropped; no answer is sent."""

    stream: int


class Step(msgspec.Struct, tag=4, array_like=True, gc=False):
    """Everything that one engine step gave, over all streams of this link."""

    chunks: list[TokenChunk]


class Failed(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """A stream ended without a last chunk, or a call cannot be answered (streams and calls share their numbers).

    `code` is an error class's code, `message` one line that users may see.
    """

    stream: int
    code: str
    message: str


class Vector(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """Answer to an embedding request: little-endian float32 values."""

    stream: int
    values: bytes
    prompt_tokens: int


class Ping(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """Heartbeat; answered by Pong with the same number."""

    call: int


class Pong(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """Answer to Ping, with the worker's load: streams running and waiting."""

    call: int
    running: int
    waiting: int


class FileCall(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """Ask for a file of the card."""

    call: int
    digest: Digest


class FilePart(msgspec.Struct, tag=10, array_like=True, frozen=True):
    """A piece of a file, in order; `last` ends it. `missing` answers an unknown digest."""

    call: int
    data: bytes
    last: bool
    missing: bool = False


class TokenizeCall(msgspec.Struct, tag=11, array_like=True, frozen=True):
    """Ask the engine to tokenize, for models whose tokenizer cannot be built in the front end."""

    call: int
    text: str
    special: bool


class DetokenizeCall(msgspec.Struct, tag=12, array_like=True, frozen=True):
    """Ask the engine for the bytes of tokens."""

    call: int
    token_ids: list[int]


class Tokens(msgspec.Struct, tag=13, array_like=True, frozen=True):
    """Answer to TokenizeCall."""

    call: int
    token_ids: list[int]


class Text(msgspec.Struct, tag=14, array_like=True, frozen=True):
    """Answer to DetokenizeCall."""

    call: int
    data: bytes


class Draining(msgspec.Struct, tag=15, array_like=True, frozen=True):
    """The worker takes no new streams on any link; running ones go on."""


class KvEvents(msgspec.Struct, tag=16, array_like=True, gc=False):
    """Changes of one rank's cache, in order; `first_id` is the first one's number, those after it count on."""

    rank: int
    first_id: int
    events: list[KvEvent]


class KvQuery(msgspec.Struct, tag=17, array_like=True, frozen=True):
    """Ask for the changes from one on, or (None) for everything that a rank holds. KvEvents follow the first one."""

    call: int
    rank: int
    start_id: int | None


class KvAnswer(msgspec.Struct, tag=18, array_like=True, frozen=True):
    """Answer to KvQuery; pieces come until one that says it is the last."""

    call: int
    reply: KvReply


class LoadReport(msgspec.Struct, tag=19, array_like=True, frozen=True):
    """What the ranks of the worker have to do, when that has changed, and now and then while there is something."""

    loads: list[RankLoad]


ToWorker = Request | Cancel | Ping | FileCall | TokenizeCall | DetokenizeCall | KvQuery
ToFrontend = (
    Hello | Step | Failed | Vector | Pong | FilePart | Tokens | Text | Draining | KvEvents | KvAnswer | LoadReport
)

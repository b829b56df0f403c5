"""The seams between decisions and the outside world. Each port speaks only `core` types and has one contract suite."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import trio

from appliance.core.errors import ApplianceError
from appliance.core.identity import Digest, WorkerId
from appliance.core.kv_events import KvReply, TakeKvEvents
from appliance.core.records import LedgerEvent, ObjectChange, RankLoad, StoredObject
from appliance.core.requests import (
    EngineRequest,
    EngineUsage,
    FinishReason,
    ModelCard,
    TokenChunk,
    TokenLogprob,
)

T = TypeVar("T")

ProgressReport = Callable[[float, str], None]
"""Called while a model loads: fraction done (0..1, negative when unknown) and what is being done, in words."""


class TokenSink(Protocol):
    """Where an engine puts the output of one stream. Calls are made on the trio thread and never block."""

    def emit(
        self,
        token_ids: list[int],
        finish: FinishReason | None = None,
        usage: EngineUsage | None = None,
        logprobs: list[TokenLogprob] | None = None,
        handover: dict[str, Any] | None = None,
        text: str | None = None,
    ) -> None:
        """Hand over the tokens of one step; with `finish` it is the stream's last call.

        `handover`, with the finish of a prefill: what the decode worker's request must carry to find the KV cache.
        `text`, when the card says `io: text`: the text of the step; the ids then stand only for a number of tokens.
        """

    async def room(self) -> None:
        """Return when the consumer's buffer has room for another step. A checkpoint. Cancelling it loses nothing."""


class Engine(Protocol):
    """Runs one model. `start` is called once; `generate` and `embed` many times at once after it."""

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Load the model and return its card.

        Raises `ModelFileBad` when trying again will not help, `EngineFailed` otherwise. Cancelling gives up the load.
        """

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        """Run one stream to its end; returns after the call with `finish` was made.

        Raises `EngineFailed` or `InvalidRequest` before that call. Cancelling frees the stream's slot within one
        engine step and 50 ms, during prefill too.
        """

    async def embed(self, request: EngineRequest) -> list[float]:
        """The embedding of the request's token ids, `embedding_size` floats. Cancelling drops the work.

        Raises `InvalidRequest` when the model gives no embeddings.
        """

    async def drain(self) -> None:
        """Refuse new streams with `EngineFailed`; return when none runs. Cancelling it leaves the engine draining."""

    async def close(self) -> None:
        """End every stream and free the model. Safe to call twice, in any state; runs under the caller's deadline."""


@runtime_checkable
class BackgroundEngine(Protocol):
    """Optional ability of an engine: work that goes on beside its streams, such as a step loop over all of them.

    Whoever owns the engine starts `run` in its nursery once `start` has returned, and before the first stream.
    """

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce readiness, then work until the engine is closed. Cancelling it fails the streams that are left."""


@runtime_checkable
class FileSource(Protocol):
    """Optional ability of an engine: the files that its card names."""

    def read_file(self, digest: Digest) -> bytes:
        """The bytes behind a digest of the card. Raises `NotFound`."""


@runtime_checkable
class TokenizeSource(Protocol):
    """Optional ability of an engine: its own tokenizer, for kinds that the front end cannot build."""

    async def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text; `special` parses special tokens in it."""

    async def detokenize(self, token_ids: list[int]) -> bytes:
        """Bytes of a token sequence, special tokens left out."""


@runtime_checkable
class ProgressSource(Protocol):
    """Optional ability of an engine: it shows that it gets on, also while no stream has a token to show for it."""

    def progress(self) -> int:
        """A number that changes with every piece of work done, such as a part of a long prompt."""
        ...


@runtime_checkable
class KvEventSource(Protocol):
    """Optional ability of an engine: it says which blocks its KV cache holds, exactly as it will reuse them."""

    def publish_kv_events(self, take: TakeKvEvents) -> None:
        """Hand every later change of the cache to `take`. Called once, after `start` and before the first stream."""


@runtime_checkable
class LoadSource(Protocol):
    """Optional ability of an engine: it knows what its ranks have to do, whoever asked for it."""

    def loads(self) -> list[RankLoad]:
        """The load of each rank at this moment; ranks count from 0."""
        ...


@runtime_checkable
class MetricsSource(Protocol):
    """Optional ability of an engine: metrics of its own, in Prometheus' text format."""

    async def read_metrics(self) -> bytes:
        """The metrics as the engine writes them; empty when it has none. Raises `WorkerLost`, `WorkerTimeout`."""
        ...


SleepLevel = Literal[1, 2]
"""1: weights go to main memory and the cache is dropped; 2: the weights are dropped too."""


@runtime_checkable
class Sleeper(Protocol):
    """Optional ability of an engine: it gives its device memory back for a while, without ending.

    Both raise `NotImplementedHere` when this instance was started without it, `EngineFailed` when it did not work.
    """

    async def sleep(self, level: SleepLevel) -> None:
        """Give the memory back; the caller has ended all streams before. Cancelling leaves either state."""
        ...

    async def wake(self) -> None:
        """Take the memory again; streams may start after it. Cancelling leaves the engine unusable until it is called
        again."""
        ...


@runtime_checkable
class AdapterHost(Protocol):
    """Optional ability of an engine: LoRA adapters that come and go while it runs, chosen by `EngineRequest.lora`.

    Both raise `NotImplementedHere` when this instance was started without it, `InvalidRequest` for an adapter that the
    engine refuses.
    """

    async def load_adapter(self, name: str, path: str) -> None:
        """Make an adapter usable under a name; `path` is a folder that the engine can read."""
        ...

    async def unload_adapter(self, name: str) -> None:
        """Forget it. Raises `NotFound` for an unknown name."""
        ...


class KvEventLog(Protocol):
    """The worker's record of its engine's cache events, for front ends that missed some; each rank counts from 1."""

    def answer(self, rank: int, start_id: int | None) -> Iterable[KvReply]:
        """The events from `start_id` on, or everything that the rank holds: without a start, or one before the record.

        The answer is of this moment, however late its pieces are taken.
        Raises `NotFound` for a rank that the worker does not have.
        """


class KvEventHistory(Protocol):
    """Front end's way to ask workers for cache events that it missed; see `KvEventLog`."""

    async def ask_kv_events(
        self, worker: WorkerId, rank: int, start_id: int | None, take: Callable[[KvReply], None]
    ) -> None:
        """Hand the pieces of the worker's answer to `take`, in order; returns after the last one.

        Raises `WorkerLost`, `WorkerTimeout`, and what the worker refused with. Cancelling may leave the rest unheard.
        """


class StreamSink(Protocol):
    """Consumer of one stream in the front end. The link's pump calls it: no call may block, wait or raise."""

    def on_chunk(self, chunk: TokenChunk) -> None:
        """Take the tokens of one step; the last chunk has `finish`. Nothing comes after it."""

    def on_error(self, error: ApplianceError) -> None:
        """The stream ended without a last chunk: worker lost, engine failed, deadline. Nothing comes after it."""

    def flush(self) -> None:
        """All that was ready in one read was handed over: send it on in one write."""


class WorkerTransport(Protocol):
    """Front end's way to workers. Streams of all requests share one link per worker."""

    async def connect(self, worker: WorkerId, address: str) -> ModelCard:
        """Open the link to a worker and return the card it introduces itself with.

        Raises `WorkerLost`, `WorkerTimeout`, `LinkBroken`. Cancelling leaves no link.
        """
        ...

    async def disconnect(self, worker: WorkerId) -> None:
        """Close the link; streams still on it end with `WorkerLost`. Unknown workers are no error."""
        ...

    def open(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> AbstractContextManager[None]:
        """Start a stream; frames go to `sink` until its end. Leaving the block earlier, by any way, cancels the stream.

        Raises `WorkerLost` when there is no live link to the worker. No checkpoint on the way in or out.
        """
        ...

    async def embed(self, worker: WorkerId, request: EngineRequest) -> list[float]:
        """One embedding. Raises what the engine raised, or `WorkerLost`. Cancelling cancels the work."""

    async def read_file(self, worker: WorkerId, digest: Digest) -> bytes:
        """Fetch and verify a file of the worker's card. Raises `NotFound`, `WorkerLost`."""

    async def tokenize(self, worker: WorkerId, text: str, *, special: bool) -> list[int]:
        """Token ids by the worker's own tokenizer. Raises `WorkerLost`, `WorkerTimeout`, `NotImplementedHere`."""
        ...

    async def probe(self, worker: WorkerId) -> float:
        """Round-trip time of a heartbeat in seconds. Raises `WorkerLost`, `WorkerTimeout`."""


class StateReader(Protocol):
    """What a read or a write function may ask of the store, inside one transaction."""

    def get(self, kind: str, name: str) -> StoredObject | None: ...
    def list_all(self, kind: str) -> list[StoredObject]: ...
    def events(self, subject: str | None = None, limit: int = 100) -> list[LedgerEvent]:
        """Newest first. `subject` matches exactly, or as a prefix when it ends in `/`."""
        ...


class StateWriter(StateReader, Protocol):
    """What a write function may do; all of it happens or none."""

    def put(self, obj: StoredObject) -> StoredObject:
        """Create or replace spec, metadata and apiVersion; status is kept.

        `resource_version` 0 means unconditional; any other value must be the stored one, else `Conflict`.
        An unchanged object is returned as stored, with no new version.
        """
        ...

    def put_status(self, kind: str, name: str, status: dict[str, object]) -> StoredObject | None:
        """Replace the status; None when the object is gone. An unchanged status makes no new version."""
        ...

    def delete(self, kind: str, name: str) -> StoredObject | None:
        """Remove the object and return what it was; None when there was none."""
        ...

    def record(self, event: LedgerEvent) -> None:
        """Append to the ledger, which keeps a bounded number of rows."""
        ...


class StateStore(Protocol):
    """Objects with optimistic concurrency, a ledger of events, and watches."""

    async def read(self, query: Callable[[StateReader], T]) -> T:
        """Run a read function in one snapshot. Cancelling waits for it to end."""
        ...

    async def write(self, change: Callable[[StateWriter], T]) -> T:
        """Run a write function in one transaction; an exception rolls it back and is raised.

        One writer at a time. A cancelled call may or may not have been applied, never half.
        """
        ...

    def watch(self, kind: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[ObjectChange]]:
        """Changes to a kind: first one `ADDED` per present object, then each committed change in order.

        A consumer that falls behind by more than the buffer finds the channel closed and watches again.
        """
        ...

"""`ForeignEngine`: the Engine port over a server of another project, started here or running already.

What differs between servers is in the methods that raise `NotImplementedError` here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import trio

from appliance.core.errors import EngineFailed, InvalidRequest, ModelNotReady, NotImplementedHere
from appliance.core.kv_events import TakeKvEvents
from appliance.core.kv_publishers import KvPublisher
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.requests import EngineRequest, ModelCard
from appliance.engines.admission import CLOSED, check_prompt
from appliance.engines.cards import CardFiles
from appliance.engines.foreign.aborts import AbortQueue
from appliance.engines.foreign.backing import BackingServer
from appliance.engines.foreign.card import served_card, text_card
from appliance.engines.foreign.door import StreamDoor
from appliance.engines.foreign.event_feed import EventFeed
from appliance.engines.foreign.options import read_options
from appliance.engines.foreign.refusals import refusal
from appliance.engines.foreign.relay import EventReader, relay
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.http.client import Answer, HttpClient
from appliance.engines.remote.body import text_body
from appliance.engines.remote.events import TextEvents
from appliance.engines.remote.listing import ListedModel, find_model

CONTROL_S = 10.0  # for an answer to a question about the server itself
EMBED_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a running server says of itself. Zero: it does not say."""

    version: str = ""
    context_length: int = 0
    block_size: int = 0
    total_kv_blocks: int = 0
    ranks: int = 1
    publishers: tuple[KvPublisher, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One generation as the server wants to be asked for it."""

    path: str
    body: dict[str, Any]
    reader: EventReader
    headers: Mapping[str, str]


class ForeignEngine(CardFiles):
    """Abilities of all: `BackgroundEngine` (the server's life), `FileSource`, `KvEventSource`, `MetricsSource`."""

    name: str
    module: tuple[str, ...]
    """What follows a Python to start the server."""
    program: tuple[str, ...]
    """The command that starts it, where it is installed."""
    speaks_tokens = True

    def __init__(self, facts: ModelFacts, options: EngineOptions, around: Surroundings) -> None:
        """Raises `UsageError` for bad engine arguments."""
        super().__init__(facts)
        self._facts, self._options, self._around = facts, options, around
        self._given = read_options(self.name, options)
        self._io: Literal["tokens", "text"] = "tokens" if self._has_tokenizer() else "text"
        self._door = StreamDoor()
        self._backing = BackingServer(self.name, self._given)
        self._served_there = options.served_name
        self._events = EventFeed(around.follow_kv_events)
        self._aborts = AbortQueue(self._abort)
        self._streams = 0
        self._card: ModelCard | None = None
        self._adapters: set[str] = set()
        """LoRA adapters that were loaded."""
        self.probed = Probed()
        """What the server said of itself when it was ready."""

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Launch the server, or reach it, and ask what it is. See `Engine.start`."""
        self._backing.choose(
            self._around, module=self.module, program=self.program, flags=self._flags, variables=self._variables
        )
        try:
            client = await self._backing.start(progress)
            progress(0.99, "asking the server what it can do")
            self.probed = await self._probe(client)
            self._card = self._make_card()
        except BaseException:
            await self._backing.stop()
            raise
        self._door.open()
        progress(1.0, "ready")
        return self._card

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the server, follow its cache events, tell it what was cancelled. See `BackgroundEngine.run`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._aborts.run)
            nursery.start_soon(self._events.run, self.probed.publishers)
            task_status.started()
            await self._backing.run()
            nursery.cancel_scope.cancel()

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        """Run one stream. See `Engine.generate`. Cancelling closes its connection at once and aborts it by name."""
        with self._door.enter():
            if self._options.task == "embed":
                raise InvalidRequest("this worker makes embeddings and generates no text", param="model")
            if request.lora and request.lora not in self._adapters:
                # Another worker of the model may have it: this error is one that front ends try again elsewhere.
                raise ModelNotReady(f"the adapter {request.lora!r} is not loaded here")
            self._streams += 1
            name = f"{request.id}-{self._streams}"
            asked = self._ask_text(request) if self._io == "text" else self._ask_fitting(request, name)
            try:
                await relay(self._client, asked.path, asked.body, asked.reader, sink, asked.headers)
            except trio.Cancelled:
                self._aborts.note(name)
                raise

    async def embed(self, request: EngineRequest) -> list[float]:
        """See `Engine.embed`."""
        with self._door.enter():
            if self._options.task != "embed":
                raise InvalidRequest("this worker generates text and makes no embeddings", param="model")
            check_prompt(request.token_ids, self._context + 1)
            body = {"model": self._served_there, "input": request.token_ids}
            answer = await self._client.request("POST", "/v1/embeddings", body, deadline_s=EMBED_S)
            return _vector(self.checked(answer))

    async def drain(self) -> None:
        """See `Engine.drain`."""
        await self._door.drain()

    async def close(self) -> None:
        """End the streams, then the server if it is ours. See `Engine.close`."""
        try:
            await self._door.close(CLOSED)
        finally:
            await self._backing.stop()

    def publish_kv_events(self, take: TakeKvEvents) -> None:
        """See `KvEventSource`. Events come while `run` runs, when the card says so."""
        self._events.publish(take)

    async def read_metrics(self) -> bytes:
        """See `MetricsSource`."""
        answer = await self._client.request("GET", "/metrics", deadline_s=CONTROL_S)
        return answer.body if answer.ok else b""

    # What servers differ in.

    def _flags(self, port: int) -> list[str]:
        """The server's command line behind its command."""
        raise NotImplementedError

    def _variables(self) -> dict[str, str]:
        """Environment variables for the server."""
        return {}

    async def _probe(self, client: HttpClient) -> Probed:
        """Ask a ready server what it is. Raises `EngineFailed` when it is not what we need."""
        raise NotImplementedError

    def _ask(self, request: EngineRequest, name: str, budget: int) -> Asked:
        """The question for a stream of at most `budget` tokens; `name` is its own at the server."""
        raise NotImplementedError

    async def _abort(self, name: str) -> None:
        """Tell the server that a stream is not wanted any more, if it has a route for it."""

    # What they share.

    @property
    def _client(self) -> HttpClient:
        return self._backing.client

    @property
    def _folder(self) -> Path | None:
        return self._backing.folder

    @property
    def _runs_module(self) -> bool:
        return self._backing.runs_module

    @property
    def _context(self) -> int:
        return self._card.context_length if self._card is not None else 0

    async def _control(self, method: str, path: str, body: Any = None, deadline_s: float = CONTROL_S) -> Answer:
        """Ask a route of the server's own. Raises `ServerLost`, `WorkerTimeout`."""
        return await self._client.request(method, path, body, deadline_s=deadline_s)

    def checked(self, answer: Answer) -> Answer:
        """The answer, when it is a success. Raises what a refusal means."""
        if not answer.ok:
            raise refusal(answer)
        return answer

    def _find_served(self, listed: list[ListedModel] | None, url: str) -> ListedModel:
        """Our model in a server's list; the only one of a server that somebody else started has any name.

        Raises `ModelFileBad` when it is not there.
        """
        alone = self._given.url is not None and listed is not None and len(listed) == 1
        entry = listed[0] if alone and listed else find_model(listed, self._options.served_name, url)
        self._served_there = entry.name
        return entry

    def _has_tokenizer(self) -> bool:
        return self.speaks_tokens and "tokenizer.json" in self._facts.files

    def _make_card(self) -> ModelCard:
        probed = self.probed
        card = served_card(
            self.name,
            self._facts,
            self._options,
            self._given,
            context_length=probed.context_length,
            block_size=probed.block_size,
            total_kv_blocks=probed.total_kv_blocks,
            ranks=probed.ranks,
            kv_events=bool(probed.publishers) and self._events.can_follow,
        )
        return card if self._io == "tokens" else text_card(card, self._options)

    def _ask_fitting(self, request: EngineRequest, name: str) -> Asked:
        check_prompt(request.token_ids, self._context)
        return self._ask(request, name, min(request.stop.max_tokens, self._context - len(request.token_ids)))

    def _ask_text(self, request: EngineRequest) -> Asked:
        path, body = text_body(
            request, model=request.lora or self._served_there, context=self._context, server_finds_calls=False
        )
        return Asked(path=path, body=body, reader=TextEvents(), headers={"x-request-id": request.id})

    def _need(self, flag: str, act: str) -> None:
        """Raise `NotImplementedHere` for what a server that we start does only when it is told to; others may do it."""
        if self._given.url is None and not self._given.is_on(flag):
            raise NotImplementedHere(f"cannot {act}: start the worker with --engine-arg {flag}=true")


def _vector(answer: Answer) -> list[float]:
    try:
        values = answer.json()["data"][0]["embedding"]
        return [float(value) for value in values]
    except (KeyError, IndexError, TypeError, ValueError):
        raise EngineFailed("the engine gave an embedding that cannot be read") from None

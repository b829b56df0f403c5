"""`ForeignEngine`: the Engine port over a server of another project, started here or running already.

What differs between servers is in the methods that raise `NotImplementedError` here.
"""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest, ModelNotReady
from appliance.core.identity import ModelName
from appliance.core.kv_events import TakeKvEvents
from appliance.core.kv_publishers import KvPublisher
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.requests import EngineRequest, ModelCard
from appliance.engines.admission import CLOSED, check_prompt
from appliance.engines.cards import CardFiles, make_card
from appliance.engines.foreign.attached import AttachedServer
from appliance.engines.foreign.command import find_command, held_environment
from appliance.engines.foreign.door import StreamDoor
from appliance.engines.foreign.options import read_options
from appliance.engines.foreign.refusals import refusal
from appliance.engines.foreign.relay import EventReader, relay
from appliance.engines.foreign.server import ForeignServer
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.http.client import Answer, HttpClient
from appliance.engines.remote.body import text_body
from appliance.engines.remote.events import REASONING_PARSER, TOOL_CALL_PARSER, TextEvents
from appliance.engines.remote.listing import ListedModel, find_model

CONTROL_S = 10.0  # for an answer to a question about the server itself
EMBED_S = 120.0
MOST_ABORTS = 4096  # waiting to be told to the server; it sees the disconnects, too


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
        self._server: ForeignServer | AttachedServer | None = None
        self._ready_client: HttpClient | None = None
        self._folder: Path | None = None
        self._held = ExitStack()
        self._runs_module = False
        self._served_there = options.served_name
        self._take_events: TakeKvEvents | None = None
        self._wants_events = trio.Event()
        self._streams = 0
        self._aborts_in, self._aborts_out = trio.open_memory_channel[str](MOST_ABORTS)
        self._card: ModelCard | None = None
        self._adapters: set[str] = set()
        """LoRA adapters that were loaded."""
        self.probed = Probed()
        """What the server said of itself when it was ready."""

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Launch the server, or reach it, and ask what it is. See `Engine.start`."""
        self._server = self._make_server()
        try:
            self._ready_client = await self._server.start(progress)
            progress(0.99, "asking the server what it can do")
            self.probed = await self._probe(self._ready_client)
            self._card = self._make_card()
        except BaseException:
            await self._end_server()
            raise
        self._door.open()
        progress(1.0, "ready")
        return self._card

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the server, follow its cache events, tell it what was cancelled. See `BackgroundEngine.run`."""
        assert self._server is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._abort_cancelled)
            nursery.start_soon(self._follow_events)
            task_status.started()
            await self._server.run()
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
                self._note_abort(name)
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
            await self._end_server()

    def publish_kv_events(self, take: TakeKvEvents) -> None:
        """See `KvEventSource`. Events come while `run` runs, when the card says so."""
        self._take_events = take
        self._wants_events.set()

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
        if self._ready_client is None:
            raise EngineFailed("the engine has not been started")
        return self._ready_client

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

    def _make_server(self) -> ForeignServer | AttachedServer:
        given = self._given
        if given.url is not None:
            return AttachedServer(self.name, given.url, given.headers, health_every_s=given.health_every_s)
        command = find_command(self.name, given, self._around, module=self.module, program=self.program)
        self._runs_module = command[-1] == self.module[-1]
        self._held.enter_context(held_environment(command[0]))
        self._folder = Path(tempfile.mkdtemp(prefix="dyn-kv-"))
        return ForeignServer(
            self.name,
            lambda port: (*command, *self._flags(port)),
            {**self._around.env, **self._variables()},
            headers=given.headers,
            health_every_s=given.health_every_s,
        )

    async def _end_server(self) -> None:
        server, self._server = self._server, None
        try:
            if server is not None:
                await server.stop()
        finally:
            self._held.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def _make_card(self) -> ModelCard:
        probed, options, given = self.probed, self._options, self._given
        context = options.context_length or probed.context_length or self._facts.context_length
        if not context:
            raise EngineFailed(f"{self.name} does not say how long its context is; give --context-length")
        card = make_card(
            self.name,
            self._facts,
            options,
            task=options.task or self._facts.task,
            context_length=min(context, probed.context_length or context),
            max_num_seqs=given.max_num_seqs,
            total_kv_blocks=probed.total_kv_blocks,
            guided=True,
        )
        card = msgspec.structs.replace(
            card,
            block_size=probed.block_size or card.block_size,
            role=given.role,
            ranks=probed.ranks,
            kv_events=bool(probed.publishers) and self._around.follow_kv_events is not None,
        )
        return card if self._io == "tokens" else self._as_text(card)

    def _as_text(self, card: ModelCard) -> ModelCard:
        return msgspec.structs.replace(
            card,
            name=ModelName(self._options.served_name),
            io="text",
            files={},
            kv_events=False,
            tool_call_parser=self._options.tool_call_parser or TOOL_CALL_PARSER,
            reasoning_parser=self._options.reasoning_parser or REASONING_PARSER,
        )

    def _ask_fitting(self, request: EngineRequest, name: str) -> Asked:
        check_prompt(request.token_ids, self._context)
        return self._ask(request, name, min(request.stop.max_tokens, self._context - len(request.token_ids)))

    def _ask_text(self, request: EngineRequest) -> Asked:
        path, body = text_body(
            request, model=request.lora or self._served_there, context=self._context, server_finds_calls=False
        )
        return Asked(path=path, body=body, reader=TextEvents(), headers={"x-request-id": request.id})

    def _note_abort(self, name: str) -> None:
        try:
            self._aborts_in.send_nowait(name)
        except trio.WouldBlock:
            return  # so many at once that the disconnects must do

    async def _abort_cancelled(self) -> None:
        async for name in self._aborts_out:
            try:
                await self._abort(name)
            except ApplianceError:
                continue  # it saw the disconnect, or is gone

    async def _follow_events(self) -> None:
        follow = self._around.follow_kv_events
        if follow is None or not self.probed.publishers:
            return
        await self._wants_events.wait()  # no deadline: nobody may ever ask for them
        assert self._take_events is not None
        async with trio.open_nursery() as nursery:
            for publisher in self.probed.publishers:
                nursery.start_soon(follow, publisher, self._take_events)


def _vector(answer: Answer) -> list[float]:
    try:
        values = answer.json()["data"][0]["embedding"]
        return [float(value) for value in values]
    except (KeyError, IndexError, TypeError, ValueError):
        raise EngineFailed("the engine gave an embedding that cannot be read") from None

"""`RemoteEngine`: the Engine port over a server with OpenAI's API, which runs somewhere else."""

import trio

from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest, UsageError
from appliance.core.identity import ModelName
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import ProgressReport, TokenSink
from appliance.core.requests import EngineRequest, ModelCard
from appliance.engines.foreign.door import StreamDoor
from appliance.engines.foreign.relay import relay
from appliance.engines.http.client import HttpClient
from appliance.engines.remote.body import text_body
from appliance.engines.remote.events import REASONING_PARSER, TOOL_CALL_PARSER, TextEvents
from appliance.engines.remote.listing import find_model, list_models
from appliance.engines.remote.options import read_options

UNKNOWN_CONTEXT = 1 << 20
"""Tokens that a card claims when the server does not say: the server itself refuses what is too long."""
MISSES = 3
"""Failed looks in a row until the server counts as gone."""


class RemoteEngine:
    """Passes requests on as text. Ability beside `Engine`: `BackgroundEngine` (watches whether the server is there)."""

    def __init__(self, model: str, options: EngineOptions) -> None:
        """`model` is the name at the server. Raises `UsageError` for bad engine arguments."""
        if options.task == "embed":
            raise UsageError("the remote engine generates text; it serves no embeddings")
        self._given = read_options(options)
        self._options = options
        self._model = self._given.model or model
        self._client = HttpClient(self._given.address, self._given.headers)
        self._context = UNKNOWN_CONTEXT
        self._door = StreamDoor()

    async def start(self, progress: ProgressReport) -> ModelCard:
        """Look whether the server has the model. See `Engine.start`."""
        url = self._given.address.url
        progress(-1.0, f"asking {url} for its models")
        entry = find_model(await list_models(self._client), self._model, url)
        self._context = self._options.context_length or entry.context_length or UNKNOWN_CONTEXT
        self._door.open()
        progress(1.0, "ready")
        return ModelCard(
            name=ModelName(self._options.served_name),
            context_length=self._context,
            io="text",
            engine="remote",
            max_num_seqs=self._given.max_num_seqs,
            guided=self._given.guided,
            tool_call_parser=self._options.tool_call_parser or TOOL_CALL_PARSER,
            reasoning_parser=self._options.reasoning_parser or REASONING_PARSER,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Raise `EngineFailed` when the server stays away, so that no more requests come here meanwhile."""
        task_status.started()
        misses = 0
        while True:
            await trio.sleep(self._given.health_every_s)
            try:
                await list_models(self._client)
                misses = 0
            except ApplianceError as error:
                misses += error.retryable
                if misses >= MISSES:
                    raise EngineFailed(f"the server of model {self._model!r} is gone: {error.message}") from None

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        """Run one stream. See `Engine.generate`. Cancelling closes its connection, at once."""
        with self._door.enter():
            path, body = text_body(
                request,
                model=self._model,
                context=self._context,
                server_finds_calls=self._given.tools == "auto",
            )
            await relay(self._client, path, body, TextEvents(), sink, {"x-request-id": request.id})

    async def embed(self, request: EngineRequest) -> list[float]:
        """See `Engine.embed`."""
        await trio.lowlevel.checkpoint()
        raise InvalidRequest("this worker generates text and makes no embeddings", param="model")

    async def drain(self) -> None:
        """See `Engine.drain`."""
        await self._door.drain()

    async def close(self) -> None:
        """End the streams; the server stays as it is. See `Engine.close`."""
        await self._door.close()
        await self._client.close()

"""`TrtLlmEngine`: TensorRT-LLM's server behind the Engine port, by token ids where it gives them, else by text."""

import json
from pathlib import Path
from typing import Any

import msgspec
import trio

from appliance.core.errors import ApplianceError, EngineFailed, NotImplementedHere, UsageError
from appliance.core.kv_events import TakeKvEvents
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import SleepLevel
from appliance.core.requests import EngineRequest, ModelCard
from appliance.engines.foreign.engine import CONTROL_S, Asked, ForeignEngine, Probed
from appliance.engines.foreign.options import flag_words
from appliance.engines.foreign.ports import LOOPBACK
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.http.client import HttpClient
from appliance.engines.remote.body import COMPLETIONS
from appliance.engines.remote.engine import UNKNOWN_CONTEXT
from appliance.engines.remote.listing import list_models
from appliance.engines.trtllm.body import completions_body, token_question
from appliance.engines.trtllm.cache_events import CacheEvents
from appliance.engines.trtllm.event_poll import POLL_S, EventPoll
from appliance.engines.trtllm.stream_events import TrtLlmEvents

MEMORY_S = 120.0
FIRST_EVENT_S = 3.0  # for the blocks of the first question to be told; a server without events says nothing
FIRST_TOKEN_S = 60.0  # a server that has just started may still warm up
OURS = ("max_batch_size", "max_seq_len")
OPTION_FILES = ("extra_llm_api_options", "config")
"""Flags for a file of further options; a user's own is left alone, and then there are no cache events."""
CACHE_MEMORY = ("kv_cache_free_gpu_memory_fraction", "free_gpu_memory_fraction")
"""Flags that our file would otherwise undo."""
BLOCK_TOKENS = 32  # the server's own default; said all the same, so that it is known
EVENT_BUFFER = 16384  # events between two looks, of which a busy server makes hundreds
EVENTS = "/kv_cache_events"


class TrtLlmEngine(ForeignEngine):
    """Ability beside those of `ForeignEngine`: `Sleeper`. Cache events are polled, of servers that we have started."""

    name = "trtllm"
    module = ("-m", "tensorrt_llm.commands.serve")
    program = ("trtllm-serve",)

    def __init__(self, facts: ModelFacts, options: EngineOptions, around: Surroundings) -> None:
        """Raises `UsageError` for bad engine arguments."""
        super().__init__(facts, options, around)
        self._cache_memory = _read_fraction(self._given.passed)
        self._poll: EventPoll | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `ForeignEngine.run`; polls for cache events beside it."""
        async with trio.open_nursery() as nursery:
            if self._poll is not None:
                nursery.start_soon(self._poll.run)
            await super().run(task_status=task_status)
            nursery.cancel_scope.cancel()

    def publish_kv_events(self, take: TakeKvEvents) -> None:
        """See `KvEventSource`."""
        if self._poll is not None:
            self._poll.publish(take)

    async def sleep(self, level: SleepLevel) -> None:
        """See `Sleeper`."""
        if level == 2:
            raise NotImplementedHere("cannot sleep at level 2: this engine would not find its weights again")
        self.checked(await self._control("POST", "/release_memory", {}, deadline_s=MEMORY_S))
        if self._poll is not None:
            self._poll.clear()

    async def wake(self) -> None:
        """See `Sleeper`."""
        self.checked(await self._control("POST", "/resume_memory", {}, deadline_s=MEMORY_S))

    async def read_metrics(self) -> bytes:
        """See `MetricsSource`. `/metrics` of this server is JSON and is emptied by reading: it is left alone."""
        answer = await self._control("GET", "/prometheus/metrics")
        return answer.body if answer.ok else b""

    def _flags(self, port: int) -> list[str]:
        given, options = self._given, self._options
        words = [str(self._facts.path), "--host", LOOPBACK, "--port", str(port)]
        context = str(options.context_length) if options.context_length else given.passed.get("max_seq_len")
        words += ["--max_seq_len", context] if context else []
        words += ["--max_batch_size", str(given.max_num_seqs)]
        if self._wants_events:
            assert self._folder is not None
            words += [f"--{OPTION_FILES[0]}", str(self._write_options(self._folder))]
        passed = flag_words(given.passed, OURS, negatable=False)
        return [*words, *map(_underscored, passed)]

    async def _probe(self, client: HttpClient) -> Probed:
        listed = await list_models(client)
        if listed is not None and len(listed) == 1:  # it names a model after its folder
            entry = listed[0]
            self._served_there = entry.name
        else:
            entry = self._find_served(listed, client.address.url)
        version = await client.request("GET", "/version", deadline_s=CONTROL_S)
        context = entry.context_length or self._options.context_length or UNKNOWN_CONTEXT
        if self._io == "tokens" and not await self._gives_tokens(client):
            self._io = "text"
        events = await self._begin_events(client) if self._wants_events else None
        return Probed(
            version=str(version.json().get("version", "")) if version.ok else "",
            context_length=context,
            block_size=0 if events is None else BLOCK_TOKENS,
            total_kv_blocks=0 if events is None else events.device_blocks,
        )

    def _make_card(self) -> ModelCard:
        return msgspec.structs.replace(super()._make_card(), kv_events=self._poll is not None)

    def _ask(self, request: EngineRequest, name: str, budget: int) -> Asked:
        body = completions_body(request, model=self._served_there, budget=budget)
        return Asked(path=COMPLETIONS, body=body, reader=TrtLlmEvents(request), headers={"x-request-id": request.id})

    @property
    def _wants_events(self) -> bool:
        """Not of a server that somebody else has started: its block size is not known, and others may ask it."""
        given = self._given
        own_file = any(flag in given.passed for flag in OPTION_FILES)
        return given.kv_events and given.url is None and self._io == "tokens" and not own_file

    def _write_options(self, folder: Path) -> Path:
        """What has no flag, in a file; JSON is YAML, too."""
        cache: dict[str, Any] = {
            "enable_block_reuse": True,
            "event_buffer_max_size": EVENT_BUFFER,
            "tokens_per_block": BLOCK_TOKENS,
        }
        if self._cache_memory is not None:
            cache["free_gpu_memory_fraction"] = self._cache_memory
        path = folder / "options.yaml"
        path.write_text(json.dumps({"kv_cache_config": cache}))
        return path

    async def _gives_tokens(self, client: HttpClient) -> bool:
        """Whether completions come as token ids: older servers refuse the member that asks for them, or answer text."""
        body = token_question(self._served_there, BLOCK_TOKENS + 1)
        answer = await client.request("POST", COMPLETIONS, body, deadline_s=FIRST_TOKEN_S)
        try:
            return answer.ok and isinstance(answer.json()["choices"][0]["token_ids"], list)
        except (ApplianceError, KeyError, IndexError, TypeError):
            return False

    async def _begin_events(self, client: HttpClient) -> CacheEvents | None:
        """What a server with cache events has said of its cache; None for one without, which has nothing to say of the
        question that it was asked."""
        first: list[Any] = []
        try:
            with trio.move_on_after(FIRST_EVENT_S):
                while not (first := await self._drain(client)):  # noqa: ASYNC110  the server has no way to tell us
                    await trio.sleep(POLL_S)
        except ApplianceError:
            return None
        if not first:
            return None
        events = CacheEvents(BLOCK_TOKENS)
        self._poll = EventPoll(self._take_events, events, first)
        return events

    async def _take_events(self) -> list[Any]:
        return await self._drain(self._client)

    async def _drain(self, client: HttpClient) -> list[Any]:
        """Empty the queue. Raises what a refusal means, and `EngineFailed` for an answer that is no list."""
        found = self.checked(await client.request("POST", EVENTS, {}, deadline_s=CONTROL_S)).json()
        if not isinstance(found, list):
            raise EngineFailed("the engine gave cache events that cannot be read")
        return found


def _read_fraction(passed: dict[str, str]) -> float | None:
    """The share of memory that the cache may take; None: it was not said."""
    for flag in CACHE_MEMORY:
        if flag in passed:
            try:
                return float(passed[flag])
            except ValueError:
                raise UsageError(f"engine argument {flag}={passed[flag]!r} of trtllm is no number") from None
    return None


def _underscored(word: str) -> str:
    """Flags of this server are written with underscores."""
    return f"--{word[2:].replace('-', '_')}" if word.startswith("--") else word

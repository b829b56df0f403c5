"""`VllmEngine`: vLLM's server behind the Engine port. Which routes it has is asked, not assumed."""

import json
from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest, NotFound
from appliance.core.kv_publishers import KvPublisher
from appliance.core.ports import SleepLevel
from appliance.core.requests import EngineRequest, ModelCard
from appliance.engines.foreign.engine import CONTROL_S, Asked, ForeignEngine, Probed
from appliance.engines.foreign.exposition import labels_of, whole_number
from appliance.engines.foreign.kv_config import choose_config, publishers_of, read_config
from appliance.engines.foreign.options import flag_words
from appliance.engines.foreign.ports import free_ports
from appliance.engines.http.client import HttpClient
from appliance.engines.remote.listing import list_models
from appliance.engines.vllm.body import COMPLETIONS, GENERATE, completions_body, generate_body
from appliance.engines.vllm.events import VllmEvents

SLEEP_S = 120.0  # weights move to main memory and back
ABSENT = (404, 405, 501)
NIXL = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
"""How the halves of a split model exchange caches, unless `kv_transfer_config` says otherwise."""
NIXL_PORT = "VLLM_NIXL_SIDE_CHANNEL_PORT"
CHECKED_FLAGS = ("kv_events_config", "max_model_len", "max_num_seqs")


class VllmEngine(ForeignEngine):
    """Abilities beside those of `ForeignEngine`: `Sleeper`, `AdapterHost`."""

    name = "vllm"
    module = ("-m", "vllm.entrypoints.openai.api_server")
    program = ("vllm", "serve")
    _has_generate = False
    _can_abort = True
    _event_config: dict[str, Any] | None = None
    _slept = 0

    async def sleep(self, level: SleepLevel) -> None:
        """See `Sleeper`."""
        self._need("enable_sleep_mode", "sleep")
        self.checked(await self._control("POST", f"/sleep?level={level}&mode=abort", deadline_s=SLEEP_S))
        self._slept = level

    async def wake(self) -> None:
        """See `Sleeper`. Weights that were dropped are read again."""
        self._need("enable_sleep_mode", "wake")
        if self._slept < 2:
            self.checked(await self._control("POST", "/wake_up", deadline_s=SLEEP_S))
        else:
            self.checked(await self._control("POST", "/wake_up?tags=weights", deadline_s=SLEEP_S))
            self.checked(
                await self._control("POST", "/collective_rpc", {"method": "reload_weights"}, deadline_s=SLEEP_S)
            )
            self.checked(await self._control("POST", "/wake_up?tags=kv_cache", deadline_s=SLEEP_S))
        self._slept = 0

    def _make_card(self) -> ModelCard:
        levels = (1, 2) if self._given.url is None and self._given.is_on("enable_sleep_mode") else ()
        return msgspec.structs.replace(super()._make_card(), sleep_levels=levels)

    async def load_adapter(self, name: str, path: str) -> None:
        """See `AdapterHost`."""
        self._need("enable_lora", "load adapters")
        answer = await self._control(
            "POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, deadline_s=SLEEP_S
        )
        if not answer.ok:
            raise InvalidRequest(f"the engine cannot load the adapter {name!r}", param="lora")
        self._adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        """See `AdapterHost`."""
        self._need("enable_lora", "unload adapters")
        answer = await self._control("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        if not answer.ok:
            raise NotFound(f"the engine has no adapter {name!r}")
        self._adapters.discard(name)

    def _flags(self, port: int) -> list[str]:
        given, options = self._given, self._options
        words = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", options.served_name]
        context = str(options.context_length) if options.context_length else given.passed.get("max_model_len")
        words += ["--max-model-len", context] if context else []
        words += ["--max-num-seqs", str(given.max_num_seqs)]
        if (config := self._choose_events()) is not None:
            words += ["--kv-events-config", json.dumps(config)]
        if self._uses_nixl:
            words += ["--kv-transfer-config", json.dumps(NIXL)]
        model = ["--model", str(self._facts.path)] if self._runs_module else [str(self._facts.path)]
        return [*model, *words, *flag_words(given.passed, CHECKED_FLAGS)]

    def _variables(self) -> dict[str, str]:
        found = {}
        if self._given.is_on("enable_sleep_mode"):
            found["VLLM_SERVER_DEV_MODE"] = "1"
        if self._given.is_on("enable_lora"):
            found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        if self._uses_nixl:
            found[NIXL_PORT] = str(free_ports(self._given.flag("data_parallel_size", 1)))  # each rank takes one
        return found

    @property
    def _uses_nixl(self) -> bool:
        return self._given.role != "aggregated" and "kv_transfer_config" not in self._given.passed

    async def _probe(self, client: HttpClient) -> Probed:
        entry = self._find_served(await list_models(client), client.address.url)
        version = await client.request("GET", "/version", deadline_s=CONTROL_S)
        cache = labels_of(
            (await client.request("GET", "/metrics", deadline_s=CONTROL_S)).body, "vllm:cache_config_info"
        )
        self._has_generate = await self._answers(client, GENERATE)
        block_size = whole_number(cache.get("block_size")) or self._given.flag("block_size", 0)
        ranks = self._given.flag("data_parallel_size", 1)
        return Probed(
            version=str(version.json().get("version", "")) if version.ok else "",
            context_length=entry.context_length or 0,
            block_size=block_size,
            total_kv_blocks=whole_number(cache.get("num_gpu_blocks")),
            ranks=ranks,
            publishers=tuple(await self._publishers(client, ranks, block_size)) if block_size else (),
        )

    def _ask(self, request: EngineRequest, name: str, budget: int) -> Asked:
        served = self._served_there
        if self._has_generate:
            path, body = GENERATE, generate_body(request, model=served, name=name, budget=budget)
        else:
            path, body = COMPLETIONS, completions_body(request, model=served, budget=budget)
        headers: dict[str, str] = {"x-request-id": request.id}
        if request.rank is not None and self.probed.ranks > 1:
            headers["x-data-parallel-rank"] = str(request.rank)
        return Asked(path=path, body=body, reader=VllmEvents(request), headers=headers)

    async def _abort(self, name: str) -> None:
        if self._has_generate and self._can_abort:
            answer = await self._control("POST", "/abort_requests", {"request_ids": [name]})
            self._can_abort = answer.status not in ABSENT

    def _choose_events(self) -> dict[str, Any] | None:
        """The configuration that the server is started with; None when nobody can follow its events."""
        if (own := self._given.passed.get("kv_events_config")) is not None:
            self._event_config = read_config(own)
        elif self._given.kv_events and self._io == "tokens" and self._around.follow_kv_events is not None:
            assert self._folder is not None
            ranks = self._given.flag("data_parallel_size", 1)
            self._event_config = {"enable_kv_cache_events": True, **choose_config(self._folder, ranks)}
        return self._event_config

    async def _publishers(self, client: HttpClient, ranks: int, block_size: int) -> list[KvPublisher]:
        if self._event_config is not None:
            return publishers_of(self._event_config, ranks=ranks, dialect="vllm", block_size=block_size)
        if self._given.url is None or not self._given.kv_events:
            return []
        answer = await client.request("GET", "/kv_event_sources", deadline_s=CONTROL_S)
        sources = answer.json() if answer.ok else []
        sources = sources.get("sources", []) if isinstance(sources, dict) else sources
        return [
            one
            for config in sources
            if isinstance(config, dict)
            for one in publishers_of(config, ranks=1, dialect="vllm", block_size=block_size)
        ]

    async def _answers(self, client: HttpClient, route: str) -> bool:
        """Whether a route exists: an empty question is refused by one that does."""
        return (await client.request("POST", route, {}, deadline_s=CONTROL_S)).status not in ABSENT

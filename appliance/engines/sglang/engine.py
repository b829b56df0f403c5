"""`SglangEngine`: SGLang's server behind the Engine port. Which routes it has is asked, not assumed."""

import json
from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest, ModelNotReady, NotFound, NotImplementedHere, UsageError
from appliance.core.kv_publishers import KvPublisher
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.ports import SleepLevel
from appliance.core.requests import EngineRequest, ModelCard
from appliance.engines.foreign.engine import CONTROL_S, Asked, ForeignEngine, Probed
from appliance.engines.foreign.exposition import whole_number
from appliance.engines.foreign.kv_config import choose_config, publishers_of, read_config
from appliance.engines.foreign.options import flag_words
from appliance.engines.foreign.ports import LOOPBACK, free_ports
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.http.client import HttpClient
from appliance.engines.remote.listing import list_models
from appliance.engines.sglang.body import generate_body
from appliance.engines.sglang.events import SglangEvents

MEMORY_S = 120.0
PAGE_TOKENS = 16  # of a server that we start with cache events; the page is the block that they speak of
BOOTSTRAP_PORT = 8998  # of a prefill server that says nothing else
OURS = ("context_length", "disaggregation_bootstrap_port", "kv_events_config", "page_size")


class SglangEngine(ForeignEngine):
    """Abilities beside those of `ForeignEngine`: `Sleeper`, `AdapterHost`."""

    name = "sglang"
    module = ("-m", "sglang.launch_server")
    program = ("sglang", "serve")
    _event_config: dict[str, Any] | None = None
    _bootstrap_port = 0

    def __init__(self, facts: ModelFacts, options: EngineOptions, around: Surroundings) -> None:
        """Raises `UsageError` for bad engine arguments, and for half of a model that requests cannot be split for."""
        super().__init__(facts, options, around)
        if self._given.role != "aggregated" and self._io == "text":
            raise UsageError(
                f"sglang cannot be a {self._given.role} worker of a model whose tokenizer does not lie here: only "
                "requests of token ids are split"
            )

    async def sleep(self, level: SleepLevel) -> None:
        """See `Sleeper`. Weights leave the device only where the server keeps a copy of them in main memory."""
        self._need("enable_memory_saver", "sleep")
        backed_up = self._given.is_on("enable_weights_cpu_backup")
        if level == 2:
            raise NotImplementedHere("cannot sleep at level 2: this engine would not find its weights again")
        body = {"tags": ["kv_cache", "weights"] if backed_up else ["kv_cache"]}
        self.checked(await self._control("POST", "/release_memory_occupation", body, deadline_s=MEMORY_S))

    async def wake(self) -> None:
        """See `Sleeper`."""
        self._need("enable_memory_saver", "wake")
        backed_up = self._given.is_on("enable_weights_cpu_backup")
        body = {"tags": ["weights", "kv_cache"] if backed_up else ["kv_cache"]}
        self.checked(await self._control("POST", "/resume_memory_occupation", body, deadline_s=MEMORY_S))

    async def load_adapter(self, name: str, path: str) -> None:
        """See `AdapterHost`."""
        self._need("enable_lora", "load adapters")
        body = {"lora_name": name, "lora_path": path}
        if not (await self._control("POST", "/load_lora_adapter", body, deadline_s=MEMORY_S)).ok:
            raise InvalidRequest(f"the engine cannot load the adapter {name!r}", param="lora")
        self._adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        """See `AdapterHost`."""
        self._need("enable_lora", "unload adapters")
        if not (await self._control("POST", "/unload_lora_adapter", {"lora_name": name})).ok:
            raise NotFound(f"the engine has no adapter {name!r}")
        self._adapters.discard(name)

    def _flags(self, port: int) -> list[str]:
        given, options = self._given, self._options
        words = ["--model-path", str(self._facts.path), "--host", LOOPBACK, "--port", str(port)]
        words += ["--served-model-name", options.served_name, "--enable-metrics"]
        words += ["--max-running-requests", str(given.max_num_seqs)]
        context = str(options.context_length) if options.context_length else given.passed.get("context_length")
        words += ["--context-length", context] if context else []
        page = given.passed.get("page_size")
        if (config := self._choose_events()) is not None:
            words += ["--kv-events-config", json.dumps(config)]
            page = page or str(PAGE_TOKENS)
        words += ["--page-size", page] if page else []
        if given.role != "aggregated":
            words += ["--disaggregation-mode", given.role]
        if given.role == "prefill":
            self._bootstrap_port = given.flag("disaggregation_bootstrap_port", 0) or free_ports()
            words += ["--disaggregation-bootstrap-port", str(self._bootstrap_port)]
        if options.task == "embed":
            words.append("--is-embedding")
        return [*words, *flag_words(given.passed, (*OURS, "enable_metrics"), negatable=False)]

    async def _probe(self, client: HttpClient) -> Probed:
        entry = self._find_served(await list_models(client), client.address.url)
        info = await self._server_info(client)
        events = info.get("kv_events")
        events = events if isinstance(events, dict) else {}
        page = whole_number(info.get("page_size"))
        block_size = whole_number(events.get("block_size")) or page
        ranks = whole_number(events.get("dp_size")) or whole_number(info.get("dp_size")) or 1
        tokens = whole_number(info.get("max_total_num_tokens"))
        if self._given.url is not None:
            told = self._given.flag("disaggregation_bootstrap_port", 0)
            self._bootstrap_port = told or whole_number(info.get("disaggregation_bootstrap_port")) or BOOTSTRAP_PORT
        return Probed(
            version=str(info.get("version", "")),
            context_length=entry.context_length or whole_number(info.get("context_length")),
            block_size=block_size if block_size > 1 else 0,  # pages of one token are no blocks to route by
            total_kv_blocks=tokens // block_size if block_size else 0,
            ranks=ranks,
            publishers=tuple(self._publishers(events, ranks, block_size)) if block_size > 1 else (),
        )

    def _ask(self, request: EngineRequest, name: str, budget: int) -> Asked:
        halves, role = request.kv_transfer, self._given.role
        if role != "aggregated" and (halves is None or halves.bootstrap_room is None):
            other = "prefill" if role == "decode" else "decode"
            raise ModelNotReady(f"a {role} worker of sglang runs no request without a {other} worker to meet")
        rank = request.rank if self.probed.ranks > 1 else None
        body = generate_body(request, name=name, budget=budget, rank=rank)
        return Asked(
            path="/generate", body=body, reader=SglangEvents(request), headers={"x-request-id": str(request.id)}
        )

    async def _abort(self, name: str) -> None:
        await self._control("POST", "/abort_request", {"rid": name, "abort_all": False})

    def _make_card(self) -> ModelCard:
        # Without a copy of the weights in main memory they stay on the device: that is too little for a sleep.
        flags = ("enable_memory_saver", "enable_weights_cpu_backup")
        sleeps = self._given.url is None and all(map(self._given.is_on, flags))
        card = msgspec.structs.replace(super()._make_card(), sleep_levels=(1,) if sleeps else ())
        if self._given.role == "decode":
            return msgspec.structs.replace(card, needs_prefill=True)
        if self._given.role != "prefill":
            return card
        host = LOOPBACK if self._given.url is None else self._given.url.host
        return msgspec.structs.replace(card, bootstrap_host=host, bootstrap_port=self._bootstrap_port)

    async def _server_info(self, client: HttpClient) -> dict[str, Any]:
        for path in ("/server_info", "/get_server_info"):
            answer = await client.request("GET", path, deadline_s=CONTROL_S)
            if answer.ok:
                info = answer.json()
                return info if isinstance(info, dict) else {}
        return {}

    def _choose_events(self) -> dict[str, Any] | None:
        """The configuration that the server is started with; None when nobody can follow its events."""
        if (own := self._given.passed.get("kv_events_config")) is not None:
            self._event_config = read_config(own)
        elif self._given.kv_events and self._io == "tokens" and self._around.follow_kv_events is not None:
            assert self._folder is not None
            ranks = max(self._given.flag("dp_size", 1), self._given.flag("data_parallel_size", 1))
            self._event_config = choose_config(self._folder, ranks)
        return self._event_config

    def _publishers(self, events: dict[str, Any], ranks: int, block_size: int) -> list[KvPublisher]:
        config = self._event_config
        if config is None and self._given.url is not None and self._given.kv_events and events:
            host, port = self._given.url.host, events.get("endpoint_port_base")
            replay = events.get("replay_endpoint_port_base")
            config = {
                "publisher": events.get("publisher"),
                "endpoint": f"tcp://{host}:{port}",
                "replay_endpoint": f"tcp://{host}:{replay}" if replay else None,
                "topic": events.get("topic"),
                "bind": True,
            }
        if config is None:
            return []
        return publishers_of(config, ranks=ranks, dialect="sglang", block_size=block_size)
